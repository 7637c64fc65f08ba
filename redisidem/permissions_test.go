package redisidem

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/lua"
)

var (
	scriptCall = regexp.MustCompile(`redis\.p?call\(\s*['"](\w+)['"](?:, '([A-Z]+)')?`)
	anyCall    = regexp.MustCompile(`redis\.p?call\(\s*([^'"\s][^,)]*)`)
)

// TestRightsAreThoseOfTheSources compares the list of rights with all commands that the scripts run
// and the package sends.
func TestRightsAreThoseOfTheSources(t *testing.T) {
	t.Parallel()
	used := make(map[string]string)
	inScript := func(where, text string) {
		for _, m := range scriptCall.FindAllStringSubmatch(text, -1) {
			command := strings.ToLower(m[1])
			if m[1] == "XINFO" {
				command += "|" + strings.ToLower(m[2])
			}
			used[command] = where
		}
		for _, m := range anyCall.FindAllStringSubmatch(text, -1) {
			if m[1] != "effect.command" { // those of effect.go
				t.Errorf("%s runs the command %s, which no list can name", where, m[1])
			}
		}
	}
	for _, s := range lua.All() {
		inScript(s.Name+".lua", s.Source)
	}
	inScript("redislock", lockScript(t))
	maps.Copy(used, sent(t))

	listed := make(map[string]bool)
	for _, r := range rights {
		if listed[r.command] {
			t.Errorf("%s is listed twice", r.command)
		}
		listed[r.command] = true
		// The commands that go-redis sends are not in our sources.
		if used[r.command] == "" && r.use != forConnecting && r.use != forClusters {
			t.Errorf("nothing uses %s", r.command)
		}
	}
	for command, where := range used {
		if !listed[command] {
			t.Errorf("%s uses %s, which the list of rights lacks", where, command)
		}
	}
}

// lockScript returns the script with which redislock obtains a lock.
func lockScript(t *testing.T) (text string) {
	t.Helper()
	_, err := redislock.New(scriptSpy{script: &text}).Obtain(t.Context(), "k", time.Second, nil)
	if err == nil || text == "" {
		t.Fatalf("redislock sent the script %q, and its error is %v", text, err)
	}
	return text
}

// scriptSpy is a client that records the script it is asked to run.
type scriptSpy struct {
	redis.Scripter
	script *string
}

// noScriptError is the server's error for a script that it does not have.
type noScriptError struct{}

func (noScriptError) Error() string { return "NOSCRIPT" }
func (noScriptError) RedisError()   {}

func (s scriptSpy) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(noScriptError{})
	return cmd
}

func (s scriptSpy) Eval(ctx context.Context, script string, _ []string, _ ...any) *redis.Cmd {
	*s.script = script
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(errors.New("not run"))
	return cmd
}

// sent returns the commands that the sources of the package send, and those of effects, with the
// file that sends each.
func sent(t *testing.T) map[string]string {
	t.Helper()
	// Methods of clients send the command of their name in small letters, with these exceptions.
	methods := map[string]string{"ConfigGet": "", "ClusterSlots": "cluster|slots", "Subscribe": "subscribe", "SetArgs": "set", "TxPipelined": ""} // Check can do without config|get
	client := reflect.TypeFor[redis.Cmdable]()
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		if _, special := methods[name]; !special {
			methods[name] = strings.ToLower(name)
		}
	}
	found := make(map[string]string)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"internal/protocol", "effect"} {
		more, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(more) == 0 {
			t.Fatalf("%s has %d sources, %v", folder, len(more), err)
		}
		files = append(files, more...)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		text := func(e ast.Expr) string {
			literal, ok := e.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return ""
			}
			word, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			return word
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name := ""
				switch f := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = f.Sel.Name
				case *ast.Ident:
					name = f.Name
				}
				withContext := len(n.Args) > 0 && isContext(n.Args[0])
				if name == "TxPipelined" {
					found["multi"], found["exec"] = file, file
				}
				switch command := methods[name]; {
				case withContext && command != "":
					found[command] = file
				case withContext && len(n.Args) > 2 && strings.HasPrefix(name, "New") && strings.HasSuffix(name, "Cmd"):
					for _, arg := range n.Args[1:3] { // a scan has what reads the next step before the command
						if word := text(arg); word != "" {
							found[word] = file
							break
						}
					}
				case withContext && len(n.Args) > 1 && name == "evaluation":
					if word := text(n.Args[1]); word != "" {
						found[word] = file
					}
				}
			case *ast.KeyValueExpr: // of an effect
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "command" && text(n.Value) != "" {
					found[strings.ToLower(text(n.Value))] = file
				}
			case *ast.CompositeLit: // the words of a command
				if list, ok := n.Type.(*ast.ArrayType); ok && len(n.Elts) > 1 {
					if element, ok := list.Elt.(*ast.Ident); ok && element.Name == "any" && text(n.Elts[0]) != "" {
						found[text(n.Elts[0])] = file
					}
				}
			}
			return true
		})
	}
	return found
}

// isContext reports whether the name of an argument is that of a context.
func isContext(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "ctx" || e.Name == "bounded"
	case *ast.SelectorExpr:
		return e.Sel.Name == "ctx"
	}
	return false
}

// TestSecurityPageListsTheRights compares docs/security.md with the list.
func TestSecurityPageListsTheRights(t *testing.T) {
	t.Parallel()
	text, err := fs.ReadFile(os.DirFS(".."), "docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "-@all\n")
	block, behind, _ := strings.Cut(block, "```")
	var want, cluster, operators []string
	for _, r := range rights {
		switch r.command {
		case "cluster|slots", "cluster|shards", "asking", "readonly":
			cluster = append(cluster, "+"+r.command)
		default:
			if r.use == forInspecting {
				operators = append(operators, "+"+r.command)
			} else {
				want = append(want, "+"+r.command)
			}
		}
	}
	if got := strings.Fields(block); !slices.Equal(got, want) {
		t.Errorf("docs/security.md lists %q, want %q", got, want)
	}
	for _, line := range []string{
		"On a cluster add `" + strings.Join(cluster, " ") + "`", "need more than programs do: `" + strings.Join(operators, " ") + "`",
	} {
		if !strings.Contains(strings.Join(strings.Fields(behind), " "), line) {
			t.Errorf("docs/security.md does not say %q", line)
		}
	}
}

// limited is a server with a user that lacks the rights that a test removes, and a service of that
// user.
type limited struct {
	t     *testing.T
	admin *redis.Client
	addr  string
}

func newLimited(t *testing.T, opts ...redistest.Option) *limited {
	t.Helper()
	server := rediscase.Server(t, opts...)
	l := &limited{t: t, admin: server.Client(), addr: server.Addr()}
	t.Cleanup(func() { _ = l.admin.Close() })
	return l
}

// allow defines the user again, with all rights on the list for a single server and then these
// rules.
func (l *limited) allow(rules ...string) {
	l.t.Helper()
	all := []string{"reset", "on", ">s3cret", "&n:*", "~n:*"}
	for _, r := range rights {
		if r.use != forConnecting && r.use != forClusters {
			all = append(all, "+"+r.command)
		}
	}
	for _, rule := range append(all, rules...) {
		if err := l.admin.Do(l.t.Context(), "ACL", "SETUSER", "app", rule).Err(); err != nil {
			l.t.Fatalf("%s: %v", rule, err)
		}
	}
}

// rights returns what Check finds about rights.
func (l *limited) rights(cfg *Config) Finding {
	l.t.Helper()
	s, err := OpenUnchecked("redis://app:s3cret@"+l.addr, cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = s.Close(context.Background()) }()
	report, err := s.Check(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Subject == "rights" {
			return f
		}
	}
	l.t.Fatalf("no finding about rights in %+v", report.Findings)
	return Finding{}
}

func namesRule(detail, rule string) bool {
	return slices.Contains(strings.FieldsFunc(detail, func(r rune) bool { return strings.ContainsRune(" ,;:'", r) }), rule)
}

// TestEachMissingRightIsNamed removes one right after the other.
func TestEachMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	l := newLimited(t)
	cfg := &Config{Namespace: "n", Timeout: 5 * time.Second, Wait: time.Second, CacheBytes: 1 << 20, CommitRetry: -1}
	l.allow()
	if f := l.rights(cfg); f.Verdict != VerdictGood {
		t.Fatalf("with all rights: %+v", f)
	}
	for _, r := range rights {
		if r.use == forConnecting || r.use == forInspecting || r.use == forClusters || r.use == forDurability {
			continue
		}
		l.allow("-" + r.command)
		f := l.rights(cfg)
		want := VerdictWarning
		if r.use == forAll {
			want = VerdictFailure
		}
		named := namesRule(f.Detail, "+"+r.command) || r.command == "eval" && strings.Contains(f.Detail, "'eval'")
		if f.Verdict != want || !named || !strings.Contains(f.Detail, "lacks a right") {
			t.Errorf("without %s: %v, %s", r.command, f.Verdict, f.Detail)
		}
		if others := strings.Count(f.Detail, "+"); others > 1 {
			t.Errorf("without %s, more is named: %s", r.command, f.Detail)
		}
		s, err := Open(t.Context(), "redis://app:s3cret@"+l.addr, cfg)
		if r.use == forAll {
			if !errors.Is(err, ErrUnsafeServer) || !strings.Contains(err.Error(), r.command) {
				t.Errorf("without %s Open returned %v", r.command, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("without %s Open returned %v", r.command, err)
			continue
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestAllMissingRightsAreNamedAtOnce removes several rights, and the keys on which the user may use
// them.
func TestAllMissingRightsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	l := newLimited(t)
	for _, c := range []struct {
		without []string
		cfg     Config
		want    Verdict
		named   []string
	}{
		{[]string{"-type", "-zadd", "-sadd", "-publish"}, Config{Wait: time.Second}, VerdictFailure, []string{"+type", "+zadd", "+sadd", "+publish"}},
		{[]string{"-publish", "-subscribe", "resetchannels"}, Config{}, VerdictGood, nil},
		{[]string{"-wait"}, Config{}, VerdictGood, nil},
		{[]string{"resetchannels"}, Config{CacheBytes: 1 << 20}, VerdictWarning, []string{"&n:wake:*", "&n:deleted"}},
		{[]string{"resetchannels", "&n:wake:*"}, Config{Wait: time.Second}, VerdictWarning, []string{"&n:deleted"}},
		{[]string{"resetkeys"}, Config{}, VerdictFailure, []string{"~n:{*}:*", "~n:{*}:*:lock", "~n:{*}:due:*", "~n:{*}:dead:*", "~n:turn:*", "~n:{*}:x:*"}},
		{[]string{"resetkeys", "~other:*"}, Config{}, VerdictFailure, []string{"~n:{*}:*"}},
		{[]string{"resetkeys", "~n:{*}:????????????????????????????????", "~n:{*}:due:*", "~n:{*}:dead:*", "~n:{*}:x:*"}, Config{}, VerdictFailure, []string{"~n:{*}:*:lock"}},
		{
			[]string{"resetkeys", "~n:{*}:????????????????????????????????", "~n:{*}:*:lock", "~n:{*}:due:*", "~n:{*}:x:*"},
			Config{},
			VerdictWarning,
			[]string{"~n:{*}:dead:*"},
		},
		{[]string{"resetkeys", "~n:{*}:*:lock", "~n:{*}:????????????????????????????????", "~n:{*}:d*"}, Config{}, VerdictWarning, []string{"~n:{*}:x:*"}},
		{[]string{"resetkeys", "%R~n:*"}, Config{}, VerdictFailure, []string{"+hset", "+set", "+del"}},
		{[]string{"-@all"}, Config{}, VerdictFailure, []string{"eval"}},
		{[]string{"-@all", "+eval"}, Config{}, VerdictFailure, []string{"+evalsha", "+hset", "+type", "+zadd", "+xadd", "+info"}},
	} {
		l.allow(c.without...)
		c.cfg.Namespace, c.cfg.Timeout, c.cfg.CommitRetry = "n", 5*time.Second, -1
		f := l.rights(&c.cfg)
		if f.Verdict != c.want {
			t.Errorf("with %q: %v, %s; want %v", c.without, f.Verdict, f.Detail, c.want)
		}
		for _, rule := range c.named {
			if !strings.Contains(f.Detail, rule) {
				t.Errorf("with %q %s is not named: %s", c.without, rule, f.Detail)
			}
		}
	}
}

// TestMissingRightToWaitIsNamed removes the right that only Durability needs.
func TestMissingRightToWaitIsNamed(t *testing.T) {
	t.Parallel()
	l := newLimited(t)
	l.allow("-wait")
	cfg := &Config{Namespace: "n", Timeout: 2 * time.Second, Durability: 1, CommitRetry: -1}
	if f := l.rights(cfg); f.Verdict != VerdictFailure || f.Detail != "the Redis user lacks a right that Durability needs: +wait" {
		t.Errorf("%+v", f)
	}
}

// TestRenamedCommandIsNamed removes a command from the server, not from the user.
func TestRenamedCommandIsNamed(t *testing.T) {
	t.Parallel()
	l := newLimited(t, redistest.Args("--rename-command", "XADD", ""))
	if err := l.admin.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">s3cret", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	f := l.rights(&Config{Namespace: "n", Timeout: 5 * time.Second})
	if f.Verdict != VerdictWarning || !namesRule(f.Detail, "+xadd") {
		t.Errorf("%+v", f)
	}
}
