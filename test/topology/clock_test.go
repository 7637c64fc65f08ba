//go:build linux

package topology

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/test/internal/rung"
)

// clock is the wall clock of a server, which can be set while it runs.
type clock struct {
	*testing.T
	file   string
	offset time.Duration
}

// newClock returns a clock, and the variables of a server that goes by it.
func newClock(t *testing.T) (*clock, redistest.Option) {
	t.Helper()
	dir := t.TempDir()
	library, c := filepath.Join(dir, "clock.so"), &clock{T: t, file: filepath.Join(dir, "offset")}
	out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-shared", "-fPIC", "-o", library, "testdata/clock.c").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	c.step(0)
	return c, redistest.Env("LD_PRELOAD="+library, "CLOCK_FILE="+c.file)
}

// step sets the clock forward, or back.
func (c *clock) step(by time.Duration) {
	c.Helper()
	c.offset += by
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(c.offset))
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o600)
	must(c, err)
	_, err = f.Write(b[:]) // in place: the server has it in its memory
	must(c, errors.Join(err, f.Close()))
}

// TestClock sets the server's clock while load goes on and while a lease is held by somebody who is gone.
func TestClock(t *testing.T) {
	const slack = 100 * time.Millisecond
	many := count(t, *steps, 20, 200, 200)
	r := dice(t)
	c, env := newClock(t)
	server := rediscase.Server(t, env)
	client := server.Client()
	defer func() { _ = client.Close() }()
	l := newLoad(t, "redis://"+server.Addr(), 0)
	l.begin()

	by := []time.Duration{time.Hour, -time.Hour, time.Minute, -time.Minute}
	const short = 300 * time.Millisecond
	var stuck []time.Duration
	late := 0
	for i := range many {
		l.recovered()
		shift := by[r.IntN(len(by))]
		// A key whose worker is gone: it neither renews nor gives back.
		value := fmt.Sprint("gone-", i)
		fence := abandoned(t, server.Addr(), value, short)
		before := client.Time(context.Background()).Val()
		c.step(shift)
		began := time.Now()
		if after := client.Time(context.Background()).Val(); after.Sub(before)-shift > time.Minute/2 || shift-after.Sub(before) > time.Minute/2 {
			t.Fatalf("the server's clock went from %v to %v, and was to step by %v", before, after, shift)
		}
		got, err := l.scopes[0].Wait(10*time.Second).Do(context.Background(), value, request,
			func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
				if st.Fence() <= fence {
					t.Errorf("the fence %d comes after %d, at a step of %v", st.Fence(), fence, shift)
				}
				return redisidem.Finish(redisidem.JSON(200, "carried on")), nil
			})
		if err != nil || !got.Finished() {
			t.Errorf("the key of the one who is gone: %v, at a step of %v", err, shift)
		}
		took := time.Since(began)
		stuck = append(stuck, took)
		if took > short+slack {
			late++
			t.Logf("step %d of %v: the key was free after %v", i, shift, took)
		}
	}
	l.end()
	l.audit()
	// Whoever is told nothing looks every 250 ms at the latest, and a busy machine adds to that.
	if late > many/5 {
		t.Errorf("%d of %d keys were locked for more than their lease and %v", late, many, slack)
	}
	rung.Figure(t, "R10", "%d steps of the server's clock by an hour and a minute both ways: %v; a key whose worker was gone, with a lease of %v, "+
		"was free after: %s; %d of them later than the lease and %v", many, l, short, spread(stuck), late, slack)
}

// abandoned takes the lease on a key and is gone. It returns the fence.
func abandoned(t *testing.T, addr, value string, length time.Duration) int64 {
	t.Helper()
	svc, err := redisidem.OpenUnchecked("redis://"+addr, &redisidem.Config{Lease: length, Timeout: timeout})
	must(t, err)
	sc := svc.Scope("load")
	_, err = sc.InitializeRequest(context.Background(), value, request)
	must(t, err)
	held, err := sc.Lock(context.Background(), value)
	must(t, err)
	// A service that is closed does not renew any more, and gives nothing back that it does not commit.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = svc.Close(ctx)
	return held.Fence()
}
