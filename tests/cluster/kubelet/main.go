// Command kubelet is a real kubelet without a container runtime: kubemark's
// hollow node. Its plugin manager, its CSI plugin and its volume manager are
// those of a node; only containers, mounts and the machine are faked.
//
// It is not cmd/kubemark because that takes a fresh root at each start: sockets
// in plugins_registry and mounted volumes would not outlast a restart, as they
// do on a node. And it opens no port and leaves the host's iptables alone.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	remote "k8s.io/cri-client/pkg"
	fakeremote "k8s.io/cri-client/pkg/fake"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	"k8s.io/kubernetes/pkg/kubemark"
)

func main() {
	klog.InitFlags(nil)
	name := flag.String("name", "", "of the node")
	kubeconfig := flag.String("kubeconfig", "", "of a user that may be a node")
	root := flag.String("root", "", "folder that outlasts a restart: plugins_registry is in it")
	flag.Parse()
	if err := run(context.Background(), *name, *kubeconfig, *root); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, name, kubeconfig, root string) error {
	client, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client.QPS, client.Burst = 100, 200
	clients, err := clientset.NewForConfig(client)
	if err != nil {
		return err
	}
	socket := filepath.Join(root, "cri.sock")
	_ = os.Remove(socket)
	endpoint := "unix://" + socket
	containers := fakeremote.NewFakeRemoteRuntime()
	if err := containers.Start(endpoint); err != nil {
		return err
	}
	runtime, err := remote.NewRemoteRuntimeService(ctx, endpoint, 15*time.Second, noop.NewTracerProvider(), false)
	if err != nil {
		return err
	}
	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{NodeName: name, MaxPods: 110})
	// The fresh one, always in /tmp.
	if err := os.RemoveAll(flags.RootDirectory); err != nil {
		return err
	}
	flags.RootDirectory = root
	config.StaticPodPath = ""
	config.PodLogsDir = filepath.Join(root, "logs")
	kubelet.ContainerLogsDir = filepath.Join(root, "containers")
	config.EnableServer = false
	config.MakeIPTablesUtilChains = false
	kubemark.NewHollowKubelet(flags, config, clients, clients, &cadvisortest.Fake{NodeName: name},
		containers.ImageService, runtime, cm.NewStubContainerManager()).Run(ctx)
	return nil
}
