package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	etcd              = "etcd"
	apiserver         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

// The shipped sidecar needs the binder and what keeps claims and volumes
// honest; everything else would only use the two cores.
const controllers = "persistentvolume-binder-controller,persistentvolume-attach-detach-controller," +
	"persistentvolume-expander-controller,persistentvolumeclaim-protection-controller," +
	"persistentvolume-protection-controller,namespace-controller,serviceaccount-controller,ephemeral-volume-controller"

// One line a request of a service account: the sidecars, and nothing else.
// A watch is a line when it starts, not when it ends. The body of a Lease is
// part of its line: the ledger is to be measured.
const auditPolicy = `{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[
	{"level":"Metadata","verbs":["watch"],"userGroups":["system:serviceaccounts"],"omitStages":["ResponseComplete"]},
	{"level":"Request","resources":[{"group":"coordination.k8s.io","resources":["leases"]}],"userGroups":["system:serviceaccounts"]},
	{"level":"Metadata","userGroups":["system:serviceaccounts"]},
	{"level":"None"}]}`

type plane struct {
	bin       string
	keeper    *keeper
	scheduler bool
	bare      bool
	nodes     nodes

	root   string
	dir    string // of this attempt, in root
	etcd   string // its client URL
	peer   string
	port   string // of the API server
	token  string // of the administrator; the stranger's is a word more
	client *http.Client
	parts  map[string]*child
}

func (p *plane) path(name string) string { return filepath.Join(p.dir, name) }

// up starts everything. A port that was free may be taken when a process binds
// it, which shows as an early end of that process: then all is begun anew.
func (p *plane) up(dir string, signals <-chan os.Signal) error {
	var err error
	p.root = dir
	for attempt := range 3 {
		p.dir = filepath.Join(dir, fmt.Sprintf("plane-%d", attempt))
		if err = p.begin(signals); err == nil {
			return nil
		}
		for _, c := range p.parts {
			p.keeper.stop(c)
		}
	}
	return err
}

func (p *plane) begin(signals <-chan os.Signal) error {
	p.parts = map[string]*child{}
	// A folder that is used again, as `make cluster` does, starts from nothing.
	for _, used := range []string{p.dir, p.nodeRoot("")} {
		if err := os.RemoveAll(used); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(p.path("certs"), 0o700); err != nil {
		return err
	}
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	p.etcd, p.peer, p.port = "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1], ports[2]
	secret := make([]byte, 16)
	_, _ = rand.Read(secret)
	p.token = hex.EncodeToString(secret)
	if err := p.writeFiles(); err != nil {
		return err
	}
	if err := p.start(etcd); err != nil {
		return err
	}
	if err := p.start(apiserver); err != nil {
		return err
	}
	select {
	case <-signals:
		return errors.New("interrupted")
	default:
	}
	if p.scheduler {
		if err := p.start(scheduler); err != nil {
			return err
		}
	}
	for _, node := range p.nodes {
		if err := p.start(kubelet + node); err != nil {
			return err
		}
	}
	if p.bare {
		return nil
	}
	return p.start(controllerManager)
}

func freePorts(count int) ([]string, error) {
	var ports []string
	for range count {
		// Held until all are known, so that they differ.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}

func (p *plane) writeFiles() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	kubeconfig, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "admin",
		"clusters": []any{map[string]any{"name": "volwright", "cluster": map[string]any{
			"server": "https://127.0.0.1:" + p.port, "certificate-authority": p.path("certs/apiserver.crt")}}},
		"users": []any{
			map[string]any{"name": "admin", "user": map[string]any{"token": p.token}},
			map[string]any{"name": "stranger", "user": map[string]any{"token": p.token + "-stranger"}}},
		"contexts": []any{
			map[string]any{"name": "admin", "context": map[string]any{"cluster": "volwright", "user": "admin"}},
			map[string]any{"name": "stranger", "context": map[string]any{"cluster": "volwright", "user": "stranger"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"service-accounts.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv":           []byte(p.token + ",admin,admin,system:masters\n" + p.token + "-stranger,stranger,stranger\n"),
		"audit-policy.json":    []byte(auditPolicy),
		"admin.kubeconfig":     kubeconfig,
		"audit.log":            nil,
	} {
		if err := os.WriteFile(p.path(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *plane) arguments(name string) ([]string, error) {
	switch name {
	case etcd:
		return []string{"--data-dir=" + p.path("etcd"), "--unsafe-no-fsync", "--quota-backend-bytes=4294967296",
			"--listen-client-urls=" + p.etcd, "--advertise-client-urls=" + p.etcd,
			"--listen-peer-urls=" + p.peer, "--initial-advertise-peer-urls=" + p.peer,
			"--initial-cluster=default=" + p.peer, "--log-level=warn"}, nil
	case apiserver:
		return []string{"--etcd-servers=" + p.etcd, "--secure-port=" + p.port,
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
			"--cert-dir=" + p.path("certs"), "--token-auth-file=" + p.path("tokens.csv"),
			"--service-account-key-file=" + p.path("service-accounts.pem"),
			"--service-account-signing-key-file=" + p.path("service-accounts.pem"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
			"--disable-admission-plugins=ServiceAccount",
			// Drivers need it on a node, to mount.
			"--allow-privileged",
			// Alpha: without it the namespace of a source is dropped.
			"--feature-gates=CrossNamespaceVolumeDataSource=true",
			"--audit-policy-file=" + p.path("audit-policy.json"), "--audit-log-path=" + p.path("audit.log"),
			"--audit-log-mode=batch", "--audit-log-batch-max-wait=100ms"}, nil
	case controllerManager:
		return []string{"--kubeconfig=" + p.path("admin.kubeconfig"), "--leader-elect=false", "--secure-port=0",
			"--kube-api-qps=2000", "--kube-api-burst=4000", "--controllers=" + controllers}, nil
	case scheduler:
		return []string{"--kubeconfig=" + p.path("admin.kubeconfig"), "--leader-elect=false", "--secure-port=0"}, nil
	}
	return nil, fmt.Errorf("%q is no part of the control plane", name)
}

// start returns when the process serves, as far as that can be asked.
func (p *plane) start(name string) error {
	argv, err := p.command(name)
	if err != nil {
		return err
	}
	c, err := p.keeper.start(false, name, p.path(strings.ReplaceAll(name, "/", "-")+".log"), nil, argv...)
	if err != nil {
		return err
	}
	p.parts[name] = c
	switch name {
	case etcd:
		return p.await(c, http.DefaultClient, p.etcd+"/health", "")
	case apiserver:
		return p.await(c, nil, "https://127.0.0.1:"+p.port+"/readyz", p.token)
	}
	return nil
}

func (p *plane) stop(name string) error {
	c, known := p.parts[name]
	if !known {
		return fmt.Errorf("%q does not run", name)
	}
	p.keeper.stop(c)
	delete(p.parts, name)
	return nil
}

// await polls until the address answers 200. The API server writes its own
// certificate at its first start, so the client that trusts it is made here.
func (p *plane) await(c *child, client *http.Client, url, token string) error {
	seen := "no answer yet"
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		select {
		case <-c.done:
			return fmt.Errorf("%s ended before it was ready, see %s", c.name, c.log)
		case <-time.After(50 * time.Millisecond):
		}
		if client == nil {
			pool := x509.NewCertPool()
			if certificate, err := os.ReadFile(p.path("certs/apiserver.crt")); err != nil || !pool.AppendCertsFromPEM(certificate) {
				continue
			}
			client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
			defer client.CloseIdleConnections()
		}
		get, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if token != "" {
			get.Header.Set("Authorization", "Bearer "+token)
		}
		reply, err := client.Do(get)
		if err != nil {
			seen = err.Error()
			continue
		}
		_ = reply.Body.Close()
		if reply.StatusCode == http.StatusOK {
			return nil
		}
		seen = reply.Status
	}
	return fmt.Errorf("%s is not ready after a minute: %s; see %s", c.name, seen, c.log)
}
