//go:build unix

package soak

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// These amounts may be added at the end, besides a twentieth. The goroutines may be timers that
// have just fired, and connections that are about to close. The heap may hold buffers, 32 KiB for
// each of the 48 connections in the pools. Its tables grow by doubling, and the cache fills up to
// 256 KiB.
const (
	moreGoroutines = 8
	moreHeap       = 3 << 20
)

// measure is the resource usage of the process while no worker works.
type measure struct {
	goroutines int
	heap       uint64
}

func (m measure) String() string {
	return fmt.Sprintf("%d goroutines and %.1f MiB", m.goroutines, float64(m.heap)/(1<<20))
}

// measure measures after everything that ends by itself has ended.
func (s *soak) measure() (m measure) {
	m.goroutines = 1 << 30
	// Wait until the number stops falling: commits may still be retried in the background.
	for unchanged := 0; unchanged < 10; unchanged++ {
		time.Sleep(100 * time.Millisecond)
		if n := runtime.NumGoroutine(); n < m.goroutines {
			m.goroutines, unchanged = n, 0
		}
	}
	runtime.GC()
	runtime.GC() // collects objects that had a finalizer
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.heap = stats.HeapAlloc
	return m
}

// mustBeFlat checks that usage has not grown since the first measure.
func (m measure) mustBeFlat(t *testing.T, first measure) {
	t.Helper()
	if m.goroutines > first.goroutines+first.goroutines/20+moreGoroutines {
		t.Errorf("there are %v, and there were %v", m, first)
	}
	if m.heap > first.heap+first.heap/20+moreHeap {
		t.Errorf("there are %v, and there were %v", m, first)
	}
}
