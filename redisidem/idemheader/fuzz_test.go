package idemheader_test

import (
	"strings"
	"testing"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// FuzzParse checks that what is accepted is a key that can be written and read again, and that
// nothing else gets through.
func FuzzParse(f *testing.F) {
	for _, s := range []string{`"a"`, `a`, `"a";b=1`, `"a", "b"`, `"\""`, `"\\"`, `"\n"`, "", `""`, ":YWJj:", "?1", "1", "\"\xff\"", "a\x00", `"`, "\t\"a\"\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		strict, strictErr := idemheader.Parse([]string{s}, true)
		lenient, err := idemheader.Parse([]string{s}, false)
		if strictErr == nil && (err != nil || strict != lenient) {
			t.Fatalf("%q: strict %q, lenient %q, %v", s, strict, lenient, err)
		}
		if err != nil {
			if lenient != "" {
				t.Fatalf("%q: a key with an error", s)
			}
			return
		}
		for i := range len(lenient) {
			if lenient[i] < ' ' || lenient[i] > '~' {
				t.Fatalf("%q: the key %q has byte %#x", s, lenient, lenient[i])
			}
		}
		text, err := idemheader.Format(lenient)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := idemheader.Parse([]string{text}, true); err != nil || again != lenient {
			t.Fatalf("%q: written as %s, read as %q, %v", lenient, text, again, err)
		}
		if strictErr != nil && lenient != strings.Trim(s, " \t") {
			t.Fatalf("%q: taken as %q", s, lenient)
		}
	})
}
