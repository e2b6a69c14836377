// Command driver serves the in-memory CSI driver of Kubernetes' own end-to-end
// suite on a unix socket. The volumes live as long as the process does.
//
// SIGHUP closes the socket and serves again after -pause with the same
// volumes: a driver restart as the sidecar sees it. Each call is one JSON line
// in -calls when it is answered; what -delay holds up is also one, without a
// code, when it begins; with the time, and the process that called. Secrets
// appear there by key only, with a digest of their values. What -config can say
// is in topology.go, its script in answers.go; some of it can be flags, for
// people.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"maps"
	"net"
	"os"
	"os/signal"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/driver"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

type call struct {
	Method   string         `json:"method"`
	Code     string         `json:"code"`
	Request  map[string]any `json:"request,omitempty"`
	VolumeID string         `json:"volumeId,omitempty"`
	Secrets  string         `json:"secrets,omitempty"` // a digest of their values
	Lost     string         `json:"lost,omitempty"`    // how the answer was
	Pid      int32          `json:"pid,omitempty"`
	At       int64          `json:"at"` // microseconds of Unix time
}

// fields gives all that was set in a request, of its secrets the keys.
func fields(request any) (set map[string]any) {
	encoded, _ := json.Marshal(request)
	_ = json.Unmarshal(encoded, &set)
	if secrets, some := set["secrets"].(map[string]any); some {
		set["secrets"] = slices.Sorted(maps.Keys(secrets))
	}
	return set
}

func main() {
	socket := flag.String("socket", "", "path of the unix socket to serve")
	name := flag.String("name", service.Name, "driver name")
	calls := flag.String("calls", "", "file that gets one JSON line a call")
	configured := flag.String("config", "", "file with segments, the node and a script; see topology.go")
	delay := flag.Duration("delay", 0, "how long CreateVolume and DeleteVolume take")
	pause := flag.Duration("pause", time.Second, "how long the socket is gone after SIGHUP")
	var given config
	given.flags()
	flag.Parse()

	out, err := os.OpenFile(*calls, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatalf("open call log: %v", err)
	}
	mock := newPlacing(service.New(service.Config{DriverName: *name}), *configured)
	mock.config = given
	var mu sync.Mutex
	write := func(line call) {
		line.At = time.Now().UnixMicro()
		encoded, _ := json.Marshal(line)
		_, _ = out.Write(append(encoded, '\n'))
	}
	hold := func(line call) {
		mu.Lock()
		write(line)
		mu.Unlock()
		time.Sleep(*delay)
	}
	record := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		line := call{Method: path.Base(info.FullMethod)}
		if from := callerOf(ctx); from != nil {
			line.Pid = from.pid
		}
		held := false
		switch r := req.(type) {
		case *csi.CreateVolumeRequest:
			line.Request, held = fields(r), true
		case *csi.DeleteVolumeRequest:
			line.Request, line.VolumeID, held = fields(r), r.GetVolumeId(), true
		case *csi.GetCapacityRequest:
			line.Request = fields(r)
		case *csi.NodeStageVolumeRequest, *csi.NodePublishVolumeRequest, *csi.NodeUnpublishVolumeRequest, *csi.NodeUnstageVolumeRequest:
			line.Request, line.VolumeID = fields(r), r.(interface{ GetVolumeId() string }).GetVolumeId()
		}
		line.Secrets = digest(req)
		if held {
			hold(line)
		}
		// The script first: a call that it holds up must hold up no other one.
		mu.Lock()
		err := mock.reload()
		scripted := mock.next(line.Method, req)
		mu.Unlock()
		scripted.wait()
		// One call after the other: the mock looks for a name and adds the volume
		// in two steps, so that two sidecars could get two volumes of one name.
		mu.Lock()
		var reply any
		if err == nil {
			err = scripted.refusal()
		}
		if err == nil {
			reply, err = handler(ctx, req)
		}
		if err == nil {
			reply, err = scripted.patched(reply)
		}
		line.Code = status.Code(err).String()
		if r, ok := reply.(*csi.CreateVolumeResponse); ok {
			line.VolumeID = r.GetVolume().GetVolumeId()
		}
		if held {
			line.Lost = mock.config.Losses.draw()
		}
		write(line)
		mu.Unlock()
		if line.Lost != "" {
			return nil, lose(ctx, line.Lost)
		}
		return reply, err
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	for {
		_ = os.Remove(*socket)
		opened, err := net.Listen("unix", *socket)
		if err != nil {
			log.Fatalf("listen: %v", err)
		}
		server := driver.NewCSIDriver(&driver.CSIDriverServers{Controller: mock, Identity: mock, Node: mock})
		if err := server.Start(listener{opened}, record); err != nil {
			log.Fatalf("serve: %v", err)
		}
		received := <-signals
		server.Stop()
		if received != syscall.SIGHUP {
			return
		}
		time.Sleep(*pause)
	}
}
