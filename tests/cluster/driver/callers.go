package main

import (
	"context"
	"net"
	"strconv"
	"syscall"

	"google.golang.org/grpc/peer"
)

// caller is the other end of a connection: which process it is, as the kernel
// says. Two provisioners at one socket cannot be told apart otherwise.
type caller struct {
	pid  int32
	conn net.Conn
}

func (c *caller) Network() string { return "unix" }
func (c *caller) String() string  { return strconv.Itoa(int(c.pid)) }

// callerOf is nil for a connection that did not come through listener.
func callerOf(ctx context.Context) *caller {
	if from, some := peer.FromContext(ctx); some {
		if c, ours := from.Addr.(*caller); ours {
			return c
		}
	}
	return nil
}

// listener gives each connection its caller as remote address: what gRPC tells
// the handler of a call.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	from := &caller{conn: conn}
	if raw, err := conn.(*net.UnixConn).SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if credentials, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
				from.pid = credentials.Pid
			}
		})
	}
	return known{conn, from}, nil
}

type known struct {
	net.Conn
	from *caller
}

func (k known) RemoteAddr() net.Addr { return k.from }
