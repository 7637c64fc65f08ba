package idemtest

import "testing"

func TestTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		times   Times
		words   string
		yes, no []int
	}{
		{Times{}, "exactly 0", []int{0}, []int{1}},
		{Exactly(2), "exactly 2", []int{2}, []int{1, 3}},
		{AtMost(2), "at most 2", []int{0, 2}, []int{3}},
		{AtLeast(1), "at least 1", []int{1, 100}, []int{0}},
		{Between(1, 2), "1 to 2", []int{1, 2}, []int{0, 3}},
	} {
		if got := c.times.String(); got != c.words {
			t.Errorf("%q, want %q", got, c.words)
		}
		for _, n := range c.yes {
			if !c.times.kept(n) {
				t.Errorf("%s is not kept by %d", c.words, n)
			}
		}
		for _, n := range c.no {
			if c.times.kept(n) {
				t.Errorf("%s is kept by %d", c.words, n)
			}
		}
	}
}
