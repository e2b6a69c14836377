package main

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func (p *plane) store() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{p.etcd}, DialTimeout: 5 * time.Second})
}

// forget makes every revision so far one that the API server answers with 410:
// etcd is compacted, and the watch cache, which would still know, begins anew.
func (p *plane) forget() error {
	client, err := p.store()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := p.stop(apiserver); err != nil {
		return err
	}
	seen, err := client.Get(ctx, "revision")
	if err != nil {
		return err
	}
	if _, err := client.Compact(ctx, seen.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	return p.start(apiserver)
}
