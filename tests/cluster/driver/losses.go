package main

import (
	"context"
	"math/rand/v2"

	"google.golang.org/grpc/status"
)

// losses is a share of the answers to CreateVolume and DeleteVolume that never
// arrive, although the call was carried out. Which ones is drawn from the seed.
type losses struct {
	Percent int    `json:"percent"`
	Seed    uint64 `json:"seed"`

	random *rand.Rand
}

const (
	silent = "silent" // the caller waits until it gives up
	broken = "broken" // the connection ends, with all other calls on it
)

// draw says what becomes of the next answer; empty is that it arrives.
func (l *losses) draw() string {
	if l.Percent == 0 {
		return ""
	}
	if l.random == nil {
		l.random = rand.New(rand.NewPCG(l.Seed, 0))
	}
	if l.random.IntN(100) >= l.Percent {
		return ""
	}
	return []string{silent, broken}[l.random.IntN(2)]
}

// lose returns when nobody waits for the answer any more.
func lose(ctx context.Context, how string) error {
	if from := callerOf(ctx); how == broken && from != nil {
		_ = from.conn.Close()
	}
	<-ctx.Done()
	return status.FromContextError(ctx.Err()).Err()
}
