package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// child is one running process. A guest was asked for by run; the others are
// the control plane.
type child struct {
	cmd    *exec.Cmd
	name   string
	log    string
	guest  bool
	wanted bool // its end, that is
	done   chan struct{}
}

func (c *child) pid() int  { return c.cmd.Process.Pid }
func (c *child) code() int { return c.cmd.ProcessState.ExitCode() }

// keeper knows every child by its process id. Only main's goroutine uses it.
type keeper struct {
	children map[int]*child
	ended    chan *child
}

func newKeeper() *keeper {
	return &keeper{children: map[int]*child{}, ended: make(chan *child, 1024)}
}

func (k *keeper) start(guest bool, name, logPath string, env map[string]string, argv ...string) (*child, error) {
	out, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	// Never the caller's: a KUBECONFIG there would aim a child at a real cluster.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	// A group of its own keeps a Ctrl-C at the terminal away from it: the order
	// of the end is ours.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{cmd: cmd, name: name, log: logPath, guest: guest, done: make(chan struct{})}
	k.children[c.pid()] = c
	go func() {
		_ = cmd.Wait()
		close(c.done)
		k.ended <- c
	}()
	return c, nil
}

// signal tells a child that is still ours to reap; a reused process id cannot
// be hit, because os.Process knows when it was waited for.
func (k *keeper) signal(pid int, sig syscall.Signal) error {
	c, known := k.children[pid]
	if !known {
		return fmt.Errorf("process %d was not started here", pid)
	}
	return c.cmd.Process.Signal(sig)
}

// stop terminates, and kills after two seconds: kube-apiserver does not go on
// SIGTERM while watches hang or etcd is away.
func (k *keeper) stop(c *child) {
	c.wanted = true
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(2 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// killAll is the end: nothing that the children keep is needed any more.
func (k *keeper) killAll() {
	for _, c := range k.children {
		c.wanted = true
		_ = c.cmd.Process.Kill()
	}
	for _, c := range k.children {
		<-c.done
	}
}
