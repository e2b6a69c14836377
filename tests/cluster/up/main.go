// Command up starts the pinned control plane on free loopback ports and keeps
// it, and whatever else it is asked to run, until its standard input ends or it
// gets SIGTERM or SIGINT. Nothing that it started outlives it: children get
// SIGKILL from the kernel when it dies in any other way.
//
// It prints one JSON line when the API server is ready, and then answers
// requests, one JSON line each way (see request and answer).
//
// With -interactive it serves a person instead: it ignores standard input and
// says which kubeconfig to use. With -none it starts no control plane and is
// only the supervisor, for tests against a cluster that is already there. With
// -bare nothing but etcd and kube-apiserver runs: no controller writes. Nodes
// have no kubelet but for those that -node names, or that a request starts.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// request is one line of standard input.
type request struct {
	ID int    `json:"id"`
	Do string `json:"do"` // run, signal, stop, start, restart, foreign or forget

	Argv []string          `json:"argv,omitempty"` // run: the command
	Env  map[string]string `json:"env,omitempty"`  // run: its whole environment
	Log  string            `json:"log,omitempty"`  // run: gets stdout and stderr

	Pid    int `json:"pid,omitempty"`    // signal: to whom
	Signal int `json:"signal,omitempty"` // signal: which

	Process string `json:"process,omitempty"` // stop, start, restart: part of the control plane, or kubelet/NODE

	Driver string `json:"driver,omitempty"` // foreign: whose claims and volumes
	Count  int    `json:"count,omitempty"`  // foreign: how many of each; 0 removes them
}

// answer is one line of standard output: to a request, or (Exited) a notice
// that something started by run has ended.
type answer struct {
	ID     int    `json:"id,omitempty"`
	Pid    int    `json:"pid,omitempty"`
	Error  string `json:"error,omitempty"`
	Exited int    `json:"exited,omitempty"`
	Code   int    `json:"code,omitempty"` // of the exit; -1 after a signal
	Ready  *ready `json:"ready,omitempty"`
}

type ready struct {
	Dir        string `json:"dir"`
	Kubeconfig string `json:"kubeconfig"`
	Audit      string `json:"audit"`
}

// The kernel sends Pdeathsig when the thread that forked ends, not the
// process: main keeps the first thread, and only main starts children.
func init() { runtime.LockOSThread() }

func main() {
	dir := flag.String("dir", "", "where everything is kept (default: a temporary folder, removed at the end)")
	interactive := flag.Bool("interactive", false, "serve a person: ignore standard input, stop on Ctrl-C")
	none := flag.Bool("none", false, "start no control plane")
	scheduler := flag.Bool("scheduler", false, "start kube-scheduler as well")
	bare := flag.Bool("bare", false, "start no controllers")
	var nodes nodes
	flag.Var(&nodes, "node", "start a kubelet for a node of this name; may stand more than once")
	flag.Parse()
	log.SetFlags(0)
	log.SetPrefix("up: ")

	// Before the first child, so that no signal finds us without a handler.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if err := run(*dir, *interactive, *none, &plane{scheduler: *scheduler, bare: *bare, nodes: nodes}, signals); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, interactive, none bool, plane *plane, signals <-chan os.Signal) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "volwright-cluster-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	keeper := newKeeper()
	defer keeper.killAll()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	plane.bin, plane.keeper = filepath.Dir(self), keeper

	lines := make(chan []byte)
	if !interactive {
		go readLines(lines)
	}
	say := json.NewEncoder(os.Stdout)
	first := answer{Ready: &ready{Dir: dir}}
	if !none {
		if err := plane.up(dir, signals); err != nil {
			return err
		}
		// A name that stays, whichever attempt it was.
		stable := filepath.Join(dir, "kubeconfig")
		_ = os.Remove(stable)
		if err := os.Symlink(plane.path("admin.kubeconfig"), stable); err != nil {
			return err
		}
		first.Ready.Kubeconfig, first.Ready.Audit = stable, plane.path("audit.log")
	}
	if interactive {
		fmt.Printf("The control plane is up; it has %s. Ctrl-C stops it.\n\n    export KUBECONFIG=%s\n    %s get storageclasses\n\n",
			plane.nodes.names(), first.Ready.Kubeconfig, filepath.Join(plane.bin, "kubectl"))
	} else if err := say.Encode(first); err != nil {
		return err
	}
	for {
		select {
		case <-signals:
			return nil
		case ended := <-keeper.ended:
			if ended.guest {
				_ = say.Encode(answer{Exited: ended.pid(), Code: ended.code()})
			} else if !ended.wanted {
				log.Printf("%s ended by itself, see %s", ended.name, ended.log)
			}
		case line, open := <-lines:
			if !open {
				return nil
			}
			if err := say.Encode(plane.answer(line)); err != nil {
				return err
			}
		}
	}
}

func readLines(lines chan<- []byte) {
	defer close(lines)
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		lines <- line
	}
}

func (p *plane) answer(line []byte) answer {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return answer{Error: err.Error()}
	}
	reply := answer{ID: r.ID}
	var err error
	switch r.Do {
	case "run":
		var c *child
		if c, err = p.keeper.start(true, filepath.Base(r.Argv[0]), r.Log, r.Env, r.Argv...); err == nil {
			reply.Pid = c.pid()
		}
	case "signal":
		err = p.keeper.signal(r.Pid, syscall.Signal(r.Signal))
	case "stop":
		err = p.stop(r.Process)
	case "start":
		err = p.start(r.Process)
	case "restart":
		if err = p.stop(r.Process); err == nil {
			err = p.start(r.Process)
		}
	case "foreign":
		err = p.foreign(r.Driver, r.Count)
	case "forget":
		err = p.forget()
	default:
		err = fmt.Errorf("unknown request %q", r.Do)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}
