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
			t.Errorf("%s differs from its file", s.Name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(files, names) {
		t.Errorf("the files are %q, and All returns %q", files, names)
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

func TestOnlyCommitAndAbandonRunWithFullMemory(t *testing.T) {
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

func TestActsHaveAFormWithAnAudit(t *testing.T) {
	t.Parallel()
	acts := []*lua.Script{lua.Update, lua.Delete, lua.Unlock, lua.Cancel, lua.Requeue, lua.Pause, lua.Resume}
	for _, s := range lua.All() {
		form := s.Audited()
		if want := slices.Contains(acts, s); want != (form != nil) {
			t.Errorf("%s has a form with an audit: %v", s.Name, form != nil)
		}
		if form == nil {
			continue
		}
		around := strings.Split(form.Source, s.Source)
		if form.Name != s.Name || len(around) != 2 || !strings.HasPrefix(lua.Audit.Source, around[0]) || !strings.HasSuffix(lua.Audit.Source, around[1]) {
			t.Errorf("the form of %s with an audit is not the audit script around it", s.Name)
		}
	}
}

var (
	reply     = regexp.MustCompile(`'([A-Z]+) '( \.\. (?:token|nonce)\b)?`)
	described = regexp.MustCompile(`(?m)^-- {3}([A-Z]+) +(\w+)`)
	command   = regexp.MustCompile(`redis\.p?call\(([^,)]*)(?:, ([^,)]*))?`)
	key       = regexp.MustCompile(`^KEYS\[[1-4]\]$`)
	literal   = regexp.MustCompile(`^'[A-Z]+'$`)
)

func TestHeadersNameKeysArgumentsRepliesAndCost(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		header, _ := split(s)
		if !strings.HasPrefix(header, "-- "+s.Name+": ") {
			t.Errorf("%s does not begin with its name", s.Name)
		}
		for _, line := range []string{"\n-- KEYS[1] ", "\n-- ARGV[1] ", "\n-- Replies\n", "\n-- Safe to repeat: yes", "\n-- redis.call: "} {
			if !strings.Contains(header, line) {
				t.Errorf("the header of %s has no line %q", s.Name, strings.TrimSpace(line))
			}
		}
	}
}

// TestRepliesAreThoseOfTheHeader compares the replies in the code with those in the header.
func TestRepliesAreThoseOfTheHeader(t *testing.T) {
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
				t.Errorf("%s: %s is not followed by the first argument", s.Name, m[0])
			}
		}
		for status := range done {
			if !said[status] {
				t.Errorf("%s replies %s, which is not in its header", s.Name, status)
			}
		}
		for status := range said {
			if !done[status] {
				t.Errorf("%s never replies %s, which is in its header", s.Name, status)
			}
		}
		if len(done) == 0 {
			t.Errorf("%s has no reply", s.Name)
		}
	}
}

func TestScriptsUseOnlyKEYS(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		header, code := split(s)
		calls := command.FindAllStringSubmatch(code, -1)
		if len(calls) == 0 && !strings.Contains(header, "\n-- redis.call: none") {
			t.Errorf("%s calls no command", s.Name)
		}
		for _, c := range calls {
			switch {
			case c[1] == "effect.command" && c[2] == "effect.key": // Go has checked it
			case !literal.MatchString(c[1]):
				t.Errorf("%s: the command of %s is not a constant", s.Name, c[0])
			case c[1] == "'TIME'", c[1] == "'PUBLISH'": // they have no key
			case c[1] == "'XINFO'" && c[2] == "'STREAM'", c[2] == "effect.key": // one of KEYS
			case !key.MatchString(c[2]):
				t.Errorf("%s: the key of %s is not one of KEYS", s.Name, c[0])
			case c[2] == "KEYS[2]" && !strings.Contains(header, "KEYS[2]"):
				t.Errorf("%s: the header does not name the key of %s", s.Name, c[0])
			}
		}
	}
}

func TestScriptsEndWithAReturn(t *testing.T) {
	t.Parallel()
	for _, s := range lua.All() {
		lines := strings.Split(strings.TrimRight(s.Source, "\n"), "\n")
		// The audit script returns the reply of its act.
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "return '") && !strings.HasPrefix(last, "return texts(") && (s != lua.Audit || last != "return reply") {
			t.Errorf("%s ends with %q", s.Name, last)
		}
	}
}

// forms returns the scripts, their forms for full memory and their forms with an audit.
func forms() []*lua.Script {
	var all []*lua.Script
	for _, s := range lua.All() {
		all = append(all, s)
		for _, form := range []*lua.Script{s.AllowOOM(), s.Audited()} {
			if form != nil {
				all = append(all, form)
			}
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

// shared are the blocks that several scripts have a copy of, since Lua in Redis has no modules.
var shared = []struct {
	name  string
	from  string // the beginning of each copy
	lines []string
	in    []string // the scripts that have at least one copy
}{
	{
		name:  "the time as text",
		from:  "time[1] ..",
		lines: []string{"time[1] .. string.rep('0', 6 - #time[2]) .. time[2]"},
		in:    []string{"abandon", "cancel", "claim", "commit", "create", "pause", "requeue", "resume", "update"},
	},
	{
		name: "texts, which makes a reply with texts",
		from: "function texts(",
		lines: []string{
			"function texts(first, list)",
			"local lengths = {}",
			"for i = 1, #list - 1 do",
			"lengths[i] = #list[i]",
			"end",
			`return first .. '\n' .. join(lengths, ' ') .. '\n' .. join(list, '')`,
			"end",
		},
		in: []string{"claim", "create", "due", "turn", "update"},
	},
	{
		name: "join, which joins texts",
		from: "local function join(",
		lines: []string{
			"local function join(list, between)",
			"local joined = table.concat(list, between, 1, math.min(#list, 1000))",
			"for i = 1001, #list, 1000 do",
			"joined = joined .. between .. table.concat(list, between, i, math.min(i + 999, #list))",
			"end",
			"return joined",
			"end",
		},
		in: []string{"claim", "create", "due", "turn", "update"},
	},
	{
		name: "the reply with the answer of a single commit",
		from: `.. ' \n7 '`,
		lines: []string{
			`.. ' \n7 ' .. #control .. ' 11 ' .. #printed .. ' 14 8 7 ' .. #r[1] .. ' 13 ' .. #r[2] .. ' ' .. length .. '13 ' .. #r[4]`,
			`.. ' 3\ncontrol' .. control .. 'fingerprint' .. printed .. 'recovery_pointfinishedrequest' .. r[1] .. 'response_code' .. r[2]`,
			`.. headers .. 'response_body' .. r[4] .. 'j:0' .. r[5]`,
		},
		in: []string{"claim", "create"},
	},
	{
		name: "touch, which writes for callers that wait for replicas",
		from: "local expires =",
		lines: []string{
			"local expires = redis.call('PEXPIRETIME', KEYS[n])",
			"if expires > 0 then",
			"redis.call('PEXPIREAT', KEYS[n], expires)",
			"else",
			"redis.call('PEXPIRE', KEYS[n], ARGV[n])",
			"end",
		},
		in: []string{"claim", "commit", "create", "update"},
	},
	{
		name:  "master, which only a master accepts",
		from:  "local function master()",
		lines: []string{"local function master()", "redis.call('HDEL', KEYS[n], '')"},
		in:    []string{"cancel", "commit", "renew", "update"},
	},
}

// TestCopiesOfABlockAreEqual compares the copies of each shared block, without indent, comments and
// the numbers of keys and arguments.
func TestCopiesOfABlockAreEqual(t *testing.T) {
	t.Parallel()
	for _, block := range shared {
		var in []string
		for _, s := range lua.All() {
			lines := plain(s)
			for i, line := range lines {
				_, copied, found := strings.Cut(line, block.from)
				if !found {
					continue
				}
				if !slices.Contains(in, s.Name) {
					in = append(in, s.Name)
				}
				first := block.from + copied
				if first == block.lines[0]+")" { // a call around it ends there
					first = block.lines[0]
				}
				got := append([]string{first}, lines[i+1:min(i+len(block.lines), len(lines))]...)
				if !slices.Equal(got, block.lines) {
					t.Errorf("%s: %s is %q, want %q", s.Name, block.name, got, block.lines)
				}
			}
		}
		slices.Sort(in)
		if !slices.Equal(in, block.in) {
			t.Errorf("%s is in %v, want %v", block.name, in, block.in)
		}
	}
}

var (
	raise = regexp.MustCompile(`redis\.call\('PEXPIRE', (.+), 'GT'\) == 0 then$`)
	begin = regexp.MustCompile(`^redis\.call\('PEXPIRE', (.+), 'NX'\)$`)
)

// TestExpiriesAreRaisedOrBegun checks that each PEXPIRE with NX stands behind one with GT on the
// same key and the same time: GT takes a key without a TTL for one that never expires.
func TestExpiriesAreRaisedOrBegun(t *testing.T) {
	t.Parallel()
	count := 0
	for _, s := range lua.All() {
		_, code := split(s)
		lines := strings.Split(code, "\n")
		for i, line := range lines {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " --")
			nx := begin.FindStringSubmatch(line)
			if nx == nil {
				continue
			}
			count++
			if gt := raise.FindStringSubmatch(strings.TrimSpace(lines[i-1])); len(gt) == 0 || gt[1] != nx[1] {
				t.Errorf("%s: %q stands behind %q", s.Name, line, strings.TrimSpace(lines[i-1]))
			}
		}
	}
	if count < 7 {
		t.Errorf("only %d places were found", count)
	}
}

var number = regexp.MustCompile(`\b(KEYS|ARGV)\[\d+\]`)

// plain returns the lines of a script's code without indent, comments and the numbers of keys and
// arguments.
func plain(s *lua.Script) (lines []string) {
	_, code := split(s)
	for line := range strings.Lines(code) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " --")
		lines = append(lines, number.ReplaceAllString(line, "$1[n]"))
	}
	return lines
}
