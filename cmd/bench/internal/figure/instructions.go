package figure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/limit"
	"github.com/redisidem/redisidem/cmd/bench/internal/result"
	"github.com/redisidem/redisidem/internal/redistest"
)

// errNoValgrind is returned where valgrind is not installed.
var errNoValgrind = errors.New("counting instructions needs the program valgrind")

// instructions measures figure 10: the instructions that a server executes for a lifecycle. The
// number does not depend on what else the machine does. It is the difference between two servers
// that differ in nothing but the number of lifecycles, so that their start does not count.
func (m *measurement) instructions(ctx context.Context) error {
	m.plan.Step("instructions")
	if _, err := exec.LookPath("valgrind"); err != nil {
		return errNoValgrind
	}
	few, many := m.plan.Counted/3, m.plan.Counted
	var counts [2]int64
	for i, n := range []int64{few, many} {
		var err error
		if counts[i], err = instructions(ctx, n); err != nil {
			return err
		}
	}
	each := float64(counts[1]-counts[0]) / float64(many-few)
	m.add(10, "instructions of a lifecycle on the server", result.SpreadOf([]float64{each}), 120_000, true, "")
	return nil
}

// collected is the line in which valgrind says how many instructions it counted.
var collected = regexp.MustCompile(`Collected : (\d+)`)

// instructions returns how many instructions a new server executes from its start to its end, with
// a number of lifecycles in between.
func instructions(ctx context.Context, lifecycles int64) (count int64, err error) {
	dir, err := os.MkdirTemp("", "instructions-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log := filepath.Join(dir, "log")
	server, err := redistest.Start(redistest.Under("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-file="+log))
	if err != nil {
		return 0, err
	}
	defer server.Stop()
	cl := server.Client()
	defer func() { _ = cl.Close() }() // nothing is in flight
	t, err := limit.Capture(ctx, cl, "figure")
	if err != nil {
		return 0, err
	}
	if _, err := limit.Lifecycles(ctx, server.Addr(), t, forever, lifecycles); err != nil {
		return 0, err
	}
	_ = cl.ShutdownNoSave(ctx) // the server ends in place of an answer
	for range 3000 {
		text, err := os.ReadFile(log)
		if err != nil {
			return 0, err
		}
		if found := collected.FindSubmatch(text); found != nil {
			return strconv.ParseInt(string(found[1]), 10, 64)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, fmt.Errorf("valgrind did not say how many instructions it counted: %s", log)
}
