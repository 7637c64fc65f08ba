package idemheader_test

import (
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// TestShortWayReadsAndWritesAsTheLibrary holds plain strings, which are read and written without
// the library for structured fields, against that library.
func TestShortWayReadsAndWritesAsTheLibrary(t *testing.T) {
	t.Parallel()
	texts := []string{"", `"`, `a b`, `""`, `"a`, `a"`, `"a"b"`, `"a";b=1`, `"a\\"`, `"\"`, `"a" `, `"ab"`}
	for c := range 256 {
		texts = append(texts, `"`+string([]byte{byte(c)})+`"`, `"a`+string([]byte{byte(c)})+`b"`)
	}
	for _, text := range texts {
		item, err := httpsfv.UnmarshalItem([]string{text})
		want, _ := item.Value.(string)
		got, gotErr := idemheader.Parse([]string{text}, true)
		if blank := want == "" || want == " "; (err != nil || blank) != (gotErr != nil) || gotErr == nil && got != want {
			t.Errorf("%q is read as %q, %v, want %q, %v", text, got, gotErr, want, err)
		}
		written, err := httpsfv.Marshal(httpsfv.NewItem(text))
		if got, gotErr := idemheader.Format(text); (err != nil) != (gotErr != nil) || gotErr == nil && got != written {
			t.Errorf("%q is written as %s, %v, want %s, %v", text, got, gotErr, written, err)
		}
	}
}
