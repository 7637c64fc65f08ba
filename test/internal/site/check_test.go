package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// site makes a folder with files.
func site(t *testing.T, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		name = filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestCheck(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{name: "AllResolve", files: map[string]string{
			"index.html":     `<a href="docs/one.html#two">1</a> <a href="https://example.com/nowhere">2</a> <script src="a.js"></script>`,
			"docs/one.html":  `<h2 id="two">Two</h2> <a href="../index.html">back</a> <a href="#two">here</a> <a href="../lua/x.html">x</a>`,
			"lua/x.html":     `<a name="named"></a><a href="#named">x</a><img src="../docs/a.svg">`,
			"docs/a.svg":     `<svg/>`,
			"a.js":           ``,
			"docs/other.txt": ``,
		}},
		{
			name: "MissingPage", files: map[string]string{"index.html": `<a href="gone.html">x</a>`},
			want: []string{"index.html: gone.html leads nowhere"},
		},
		{
			name: "MissingAnchor", files: map[string]string{"index.html": `<a href="one.html#gone">x</a><a href="one.html">x</a>`, "one.html": `<p id="here">`},
			want: []string{"index.html: one.html#gone leads to no anchor of one.html"},
		},
		{
			name: "MissingImage", files: map[string]string{"index.html": `<img src="gone.svg">`},
			want: []string{"index.html: gone.svg leads nowhere"},
		},
		{
			name: "Folder", files: map[string]string{"index.html": `<a href="docs/">x</a><a href="docs/index.html">x</a>`, "docs/index.html": ``},
			want: []string{"index.html: docs/ leads nowhere"},
		},
		{
			name: "FromTheRoot", files: map[string]string{"index.html": `<a href="/index.html">x</a>`},
			want: []string{"index.html: /index.html leads nowhere"},
		},
		{
			name: "AnchorTwice", files: map[string]string{"index.html": `<h2 id="a"></h2><p id="a">`},
			want: []string{"index.html: the anchor #a is there twice"},
		},
		{
			name: "Orphan", files: map[string]string{"index.html": ``, "alone.html": `<a href="index.html">x</a>`},
			want: []string{"alone.html: no path of links leads here from index.html"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := check(site(t, test.files))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.problems, test.want) {
				t.Errorf("problems: %q, want %q", got.problems, test.want)
			}
			if test.want == nil && (got.pages != 3 || got.links != 7) {
				t.Errorf("%d pages with %d links, want 3 with 7", got.pages, got.links)
			}
		})
	}
}

func TestCheckNeedsAFirstPage(t *testing.T) {
	t.Parallel()
	_, err := check(site(t, map[string]string{"other.html": ""}))
	if err == nil || !strings.Contains(err.Error(), "index.html") {
		t.Errorf("error %v, want one that names index.html", err)
	}
}
