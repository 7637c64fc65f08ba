package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/internal/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

func TestStoryEndsWellEachTimeItIsPlayed(t *testing.T) {
	t.Parallel()
	for range 2 {
		var out bytes.Buffer
		if err := run(t.Context(), &out, ""); err != nil {
			t.Fatalf("%v, after\n%s", err, &out)
		}
		for _, line := range []string{
			"the worker dies of a power cut",
			"attempt 2: finds the first stage's 19.00 EUR tax",
			"has reserved 119.00 EUR in all",
			"the same bytes: true",
			"refused: redisidem: key was used with another request",
			"refused with ErrLocked",
			`answers "receipt 4711", replayed: true`,
		} {
			if !strings.Contains(out.String(), line) {
				t.Errorf("the story lacks %q:\n%s", line, &out)
			}
		}
	}
}
