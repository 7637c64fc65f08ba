package idemtest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// results is a test that records the failures of its subtests instead of failing.
type results struct {
	testing.TB
	name     string
	all      *[]result
	own      int    // the index of the result
	only     string // the one subtest to run; "" for all
	cleanups []func()
}

type result struct {
	name     string
	failures []string
}

// collect runs a matrix. It returns the names of its cases, and the failures by name.
func collect(t testing.TB, c CrashConfig) (cases []string, failed map[string]string) {
	t.Helper()
	return runSubtests(t, func(r runner) { crashMatrix(r, c) })
}

// runSubtests runs a test. It returns the names of its subtests, and the failures by name.
func runSubtests(t testing.TB, test func(runner)) (cases []string, failed map[string]string) {
	t.Helper()
	var all []result
	r := &results{TB: t, all: &all}
	r.run("", test)
	failed = make(map[string]string)
	for _, one := range all {
		cases = append(cases, one.name)
		if len(one.failures) > 0 {
			failed[one.name] = strings.Join(one.failures, "\n")
		}
	}
	return cases[1:], failed
}

func (r *results) run(name string, f func(runner)) {
	if r.only != "" && r.only != name {
		return
	}
	sub := &results{TB: r.TB, name: strings.TrimPrefix(r.name+"/"+name, "/"), all: r.all, own: len(*r.all)}
	*r.all = append(*r.all, result{name: sub.name})
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(sub)
	}()
	<-done
	for _, cleanup := range slices.Backward(sub.cleanups) {
		cleanup()
	}
}

func (r *results) fail(text string) {
	one := &(*r.all)[r.own]
	one.failures = append(one.failures, text)
}

func (r *results) Parallel()                         {}
func (r *results) Helper()                           {}
func (r *results) Cleanup(f func())                  { r.cleanups = append(r.cleanups, f) }
func (r *results) Logf(string, ...any)               {}
func (r *results) Errorf(format string, args ...any) { r.fail(fmt.Sprintf(format, args...)) }

func (r *results) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	r.FailNow()
}

func (r *results) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
func (r *results) FailNow()          { runtime.Goexit() }

func (r *results) Failed() bool {
	for _, one := range (*r.all)[r.own:] {
		if len(one.failures) > 0 && strings.HasPrefix(one.name, r.name) {
			return true
		}
	}
	return false
}
