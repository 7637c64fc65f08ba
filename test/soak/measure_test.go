//go:build unix

package soak

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// What may be more at the end than at the beginning, besides a twentieth. Goroutines: timers that
// have just fired, connections to be given up. The heap: buffers of connections (32 KiB for each in
// the pools, 48 in all), tables that grow by doubling, and the cache, which fills up to its 256
// KiB.
const (
	moreGoroutines = 8
	moreHeap       = 3 << 20
)

// measure is what the process uses while no worker works.
type measure struct {
	goroutines int
	heap       uint64
}

func (m measure) String() string {
	return fmt.Sprintf("%d goroutines and %.1f MiB", m.goroutines, float64(m.heap)/(1<<20))
}

// measure looks when all that ends by itself has ended.
func (s *soak) measure() (m measure) {
	m.goroutines = 1 << 30
	// Until there are no fewer: commits may still be tried in the background.
	for unchanged := 0; unchanged < 10; unchanged++ {
		time.Sleep(100 * time.Millisecond)
		if n := runtime.NumGoroutine(); n < m.goroutines {
			m.goroutines, unchanged = n, 0
		}
	}
	runtime.GC()
	runtime.GC() // for what has a finalizer
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.heap = stats.HeapAlloc
	return m
}

// mustBeFlat checks that nothing has piled up since the first measure.
func (m measure) mustBeFlat(t *testing.T, first measure) {
	t.Helper()
	if m.goroutines > first.goroutines+first.goroutines/20+moreGoroutines {
		t.Errorf("there are %v, and there were %v", m, first)
	}
	if m.heap > first.heap+first.heap/20+moreHeap {
		t.Errorf("there are %v, and there were %v", m, first)
	}
}
