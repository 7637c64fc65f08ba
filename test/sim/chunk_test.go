package sim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"
)

// Each process runs one history at a time, on one processor. That is fastest. The source of
// randomness is set for the whole process, and a deadlock or a panic ends only one process.
const (
	chunkVariable = "REDISIDEM_TEST_CHUNK"
	chunkSize     = 250
	chunkLife     = 10 * time.Minute
)

// chunk is a number of histories with consecutive seeds.
type chunk struct {
	Seed  uint64
	Count int
}

// total is the sum of many histories.
type total struct {
	histories int
	count     tally
	cpu       time.Duration
}

// explore runs histories in other processes, one per processor at a time, and passes each outcome
// to see.
func explore(t *testing.T, seed uint64, many int, see func(outcome)) (sum total) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	chunks := make(chan chunk)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for c := range chunks {
				cpu, err := c.run(ctx, func(o outcome) {
					mu.Lock()
					defer mu.Unlock()
					see(o)
					sum.histories++
					sum.count.add(o.Tally)
					if t.Failed() {
						cancel() // one failure is enough to look at
					}
				})
				mu.Lock()
				sum.cpu += cpu
				if err != nil && ctx.Err() == nil {
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	size := min(chunkSize, max(many/runtime.GOMAXPROCS(0), 1))
	for i := 0; i < many && ctx.Err() == nil; i += size {
		chunks <- chunk{seed + uint64(i), min(size, many-i)}
	}
	close(chunks)
	wg.Wait()
	return sum
}

// run runs the chunk's histories in a process of their own.
func (c chunk) run(ctx context.Context, see func(outcome)) (cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, chunkLife)
	defer cancel()
	text, err := json.Marshal(c)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^TestChunk$", "-test.timeout", chunkLife.String(), fmt.Sprintf("-show=%t", *show))
	cmd.Env = append(os.Environ(), chunkVariable+"="+string(text), "GOMAXPROCS=1", "GOGC=400")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	next := c.Seed
	var rest []byte
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var o outcome
		if json.Unmarshal(lines.Bytes(), &o) != nil {
			rest = append(append(rest, lines.Bytes()...), '\n')
			continue
		}
		next = o.Seed + 1
		see(o)
	}
	err = cmd.Wait()
	if err != nil || next != c.Seed+uint64(c.Count) {
		err = fmt.Errorf("the history of seed %d has no end: %w\n%s%s", next, err, tail(rest), tail(stderr.Bytes()))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
}

// tail returns the end of a long text.
func tail(text []byte) []byte { return text[max(0, len(text)-16_000):] }

// TestChunk is the entry point of the processes that explore starts.
func TestChunk(t *testing.T) {
	text := os.Getenv(chunkVariable)
	if text == "" {
		return // only explore runs it
	}
	var c chunk
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for i := range c.Count {
		o := simulate(t, c.Seed+uint64(i), false)
		if len(o.Violations) == 0 && !*show {
			o.Trace = nil
		}
		if err := out.Encode(o); err != nil {
			t.Fatal(err)
		}
	}
}
