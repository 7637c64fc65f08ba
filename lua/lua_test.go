package lua_test

import (
	"crypto/sha1"
	"encoding/hex"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redisidem/redisidem/lua"
)

func TestAllScriptsAreEmbedded(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var files, names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".lua"); ok {
			files = append(files, name)
		}
	}
	for _, s := range lua.All() {
		names = append(names, s.Name)
		text, err := os.ReadFile(s.Name + ".lua")
		if err != nil {
			t.Error(err)
		}
		if s.Source != string(text) {
			t.Errorf("%s holds another text than its file", s.Name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(files, names) {
		t.Errorf("the files are %q, and All has %q", files, names)
	}
}

func TestSHANamesTheSource(t *testing.T) {
	t.Parallel()
	for _, s := range forms() {
		sum := sha1.Sum([]byte(s.Source))
		if want := hex.EncodeToString(sum[:]); s.SHA != want {
			t.Errorf("%s: SHA is %s, want %s", s.Name, s.SHA, want)
		}
	}
}

func TestOnlyWhatEndsWorkRunsOutOfMemory(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		form := s.AllowOOM()
		if want := s == lua.Commit || s == lua.Abandon; want != (form != nil) {
			t.Errorf("%s has a form for full memory: %v", s.Name, form != nil)
		}
		if form == nil {
			continue
		}
		if form.Name != s.Name || form.Source != "#!lua flags=allow-oom\n"+s.Source || form.SHA == s.SHA {
			t.Errorf("the form of %s for full memory is %+v", s.Name, form)
		}
	}
}

var (
	reply     = regexp.MustCompile(`\{'([A-Z]+)( ' \.\. (?:token|nonce)\b)?`)
	described = regexp.MustCompile(`(?m)^-- {3}([A-Z]+) +(\w+)`)
	command   = regexp.MustCompile(`redis\.p?call\(([^,)]*)(?:, ([^,)]*))?`)
	key       = regexp.MustCompile(`^KEYS\[[1-4]\]$`)
	literal   = regexp.MustCompile(`^'[A-Z]+'$`)
)

func TestScriptsOpenWithWhatTheyTake(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		header, _ := split(s)
		if !strings.HasPrefix(header, "-- "+s.Name+": ") {
			t.Errorf("%s does not open with its name", s.Name)
		}
		for _, line := range []string{"\n-- KEYS[1] ", "\n-- ARGV[1] ", "\n-- Replies\n", "\n-- Safe to repeat: yes", "\n-- redis.call: "} {
			if !strings.Contains(header, line) {
				t.Errorf("the header of %s has no line %q", s.Name, strings.TrimSpace(line))
			}
		}
	}
}

// TestScriptsReplyAsTheySay compares the replies in the code to those in the header.
func TestScriptsReplyAsTheySay(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		header, code := split(s)
		said, done := map[string]bool{}, map[string]bool{}
		for _, m := range described.FindAllStringSubmatch(header, -1) {
			said[m[1]] = true
		}
		for _, m := range reply.FindAllStringSubmatch(code, -1) {
			done[m[1]] = true
			if m[2] == "" {
				t.Errorf("%s: %s is not followed by a space and the first argument", s.Name, m[0])
			}
		}
		for status := range done {
			if !said[status] {
				t.Errorf("%s replies %s, which its header does not tell", s.Name, status)
			}
		}
		for status := range said {
			if !done[status] {
				t.Errorf("%s never replies %s, which its header tells", s.Name, status)
			}
		}
		if len(done) == 0 {
			t.Errorf("%s has no reply", s.Name)
		}
	}
}

func TestScriptsUseOnlyTheKeysTheyAreGiven(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		header, code := split(s)
		calls := command.FindAllStringSubmatch(code, -1)
		if len(calls) == 0 && !strings.Contains(header, "\n-- redis.call: none") {
			t.Errorf("%s calls no command", s.Name)
		}
		for _, c := range calls {
			switch {
			case c[1] == "effect.command" && c[2] == "effect.key": // which Go has made sure of
			case !literal.MatchString(c[1]):
				t.Errorf("%s: the command of %s is not a constant", s.Name, c[0])
			case c[1] == "'TIME'", c[1] == "'PUBLISH'": // they have no key
			case c[1] == "'XINFO'" && c[2] == "'STREAM'", c[2] == "effect.key": // one of KEYS
			case !key.MatchString(c[2]):
				t.Errorf("%s: the key of %s is none of KEYS", s.Name, c[0])
			case c[2] == "KEYS[2]" && !strings.Contains(header, "KEYS[2] lock"):
				t.Errorf("%s: the header does not tell of the key of %s", s.Name, c[0])
			}
		}
	}
}

func TestScriptsEndWithAReturn(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		lines := strings.Split(strings.TrimRight(s.Source, "\n"), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "return {'") {
			t.Errorf("%s ends with %q", s.Name, last)
		}
	}
}

// forms returns the scripts and their forms for full memory.
func forms() []*lua.Script {
	var all []*lua.Script
	for _, s := range lua.All() {
		all = append(all, s)
		if form := s.AllowOOM(); form != nil {
			all = append(all, form)
		}
	}
	return all
}

// split returns a script's opening comment, and its code without comments.
func split(s *lua.Script) (header, code string) {
	opening := true
	for line := range strings.Lines(s.Source) {
		comment := strings.HasPrefix(strings.TrimSpace(line), "--")
		opening = opening && comment
		switch {
		case opening:
			header += line
		case !comment:
			code += line
		}
	}
	return header, code
}
