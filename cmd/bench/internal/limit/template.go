// Package limit measures the server's own limit. It sends the commands of a lifecycle over a bare
// socket in deep pipelines, without any other work.
package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// hole is a placeholder in a template.
type hole int

const (
	fixed  hole = iota
	key         // the idempotency key
	record      // the record's name in Redis
	lock        // the lock's name in Redis
	token
	fence
)

// word is one word of a command, as its parts: words of this library consist of texts with spaces
// between them.
type word []part

// part is a fixed text, or a placeholder.
type part struct {
	hole hole
	text string // an example, for a placeholder
}

// Template holds the commands of one lifecycle as this library sent them.
type Template struct {
	Claim, Commit []word

	record, lock, token string // examples
}

// The two keys have the same length.
const (
	exampleKey  = "an-example-of-a-key-000000"
	exampleKey2 = "one-more-example-key-00000"
	exampleSize = 200
)

// Capture records lifecycles of the library on a server that it may write to. It makes a template
// of them, in which the words that change between lifecycles are placeholders.
func Capture(ctx context.Context, client *redis.Client, namespace string) (*Template, error) {
	svc, err := redisidem.New(client, &redisidem.Config{Namespace: namespace, Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { _ = svc.Close(ctx) }() // nothing is in flight
	scope := svc.Scope("bench")
	body := []byte(strings.Repeat("x", exampleSize))
	run := func(value string) error {
		_, err := scope.Do(ctx, value, redisidem.Request{Method: "POST", Path: "/orders", Params: params},
			func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
				return redisidem.Finish(redisidem.Response{Code: 200, Body: body}), nil
			})
		return err
	}
	if err := run("the first one loads the scripts"); err != nil {
		return nil, err
	}
	recorded := &recorder{}
	client.AddHook(recorded)
	defer recorded.stop()
	if err := errors.Join(run(exampleKey), run(exampleKey2)); err != nil {
		return nil, err
	}
	if len(recorded.commands) != 4 {
		return nil, fmt.Errorf("two lifecycles have %d commands, not claim and commit each", len(recorded.commands))
	}
	return newTemplate(recorded.commands[:2], recorded.commands[2:])
}

// newTemplate makes a template of two lifecycles.
func newTemplate(one, two [][]string) (*Template, error) {
	for i, command := range one {
		if len(command) != len(two[i]) {
			return nil, fmt.Errorf("%q and %q differ in length", command, two[i])
		}
	}
	claim, commit := one[0], one[1]
	both := keys(claim)
	if len(both) != 2 {
		return nil, fmt.Errorf("claim knows %q, not a record and its lock", both)
	}
	slices.Sort(both) // the record's name begins the lock's
	t := &Template{record: both[0], lock: both[1]}
	if !strings.HasPrefix(t.lock, t.record) {
		return nil, fmt.Errorf("the lock %q is not named after the record %q", t.lock, t.record)
	}
	holes := map[string]hole{exampleKey: key, t.record: record, t.lock: lock}
	// fresh returns the only text of a command that changes and is not known yet.
	fresh := func(command, other []string) (string, error) {
		var found []string
		for i, text := range command {
			again := strings.Split(other[i], " ")
			for n, field := range strings.Split(text, " ") {
				_, known := holes[field]
				if !known && (n >= len(again) || field != again[n]) && !slices.Contains(found, field) {
					found = append(found, field)
				}
			}
		}
		if len(found) != 1 {
			return "", fmt.Errorf("%q are new in %q, not one text", found, command)
		}
		return found[0], nil
	}
	var err error
	if t.token, err = fresh(claim, two[0]); err != nil {
		return nil, fmt.Errorf("the token: %w", err)
	}
	holes[t.token] = token
	if t.Claim, err = words(claim, two[0], holes); err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	number, err := fresh(commit, two[1])
	if err != nil {
		return nil, fmt.Errorf("the fence: %w", err)
	}
	holes[number] = fence
	if t.Commit, err = words(commit, two[1], holes); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return t, nil
}

// keys returns the keys of an EVALSHA.
func keys(command []string) []string {
	if len(command) < 3 {
		return nil
	}
	n, err := strconv.Atoi(command[2])
	if err != nil || n < 0 || 3+n > len(command) {
		return nil
	}
	return slices.Clone(command[3 : 3+n])
}

// params is the body of each request, as in the scenarios.
var params = []byte(`{"cart":"8f14e45f","amount":4200,"currency":"EUR","note":"ring twice"}`)

// words replaces texts in a command by placeholders. Everything else must be the same as in the
// other lifecycle.
func words(command, other []string, holes map[string]hole) ([]word, error) {
	all := make([]word, len(command))
	for i, text := range command {
		again := strings.Split(other[i], " ")
		for n, field := range strings.Split(text, " ") {
			p := part{holes[field], field}
			if changes := n >= len(again) || field != again[n]; changes != (p.hole != fixed) {
				return nil, fmt.Errorf("word %d is %q and then %q", i, text, other[i])
			}
			if n > 0 {
				all[i] = all[i].add(part{fixed, " "})
			}
			all[i] = all[i].add(p)
		}
	}
	return all, nil
}

// add appends a part. Adjacent fixed texts become one part.
func (w word) add(p part) word {
	if n := len(w); n > 0 && w[n-1].hole == fixed && p.hole == fixed {
		w[n-1].text += p.text
		return w
	}
	return append(w, p)
}

// recorder is a hook that records commands.
type recorder struct {
	mu       sync.Mutex
	deaf     bool
	commands [][]string
}

func (e *recorder) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = true
}

func (e *recorder) hear(cmd redis.Cmder) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.deaf {
		return
	}
	var text []string
	for _, arg := range cmd.Args() {
		switch v := arg.(type) {
		case []byte:
			text = append(text, string(v))
		case *string: // as the library sends texts and numbers
			text = append(text, *v)
		case *int64:
			text = append(text, strconv.FormatInt(*v, 10))
		default:
			text = append(text, fmt.Sprint(v))
		}
	}
	e.commands = append(e.commands, text)
}

// DialHook implements [redis.Hook].
func (e *recorder) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (e *recorder) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		e.hear(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (e *recorder) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			e.hear(cmd)
		}
		return next(ctx, cmds)
	}
}

// names are the texts for the placeholders of one lifecycle.
type names struct {
	key, record, lock, token, fence []byte

	word []byte // memory for one word
}

// fill sets the names of the n-th lifecycle. They have the same lengths as the examples.
func (t *Template) fill(into *names, run string, n uint64) {
	number := func(b []byte, example string, keep int) []byte {
		// The name is the example up to keep, then padding, then the run and the number.
		b = append(b[:0], example...)
		var digits [40]byte
		d := strconv.AppendUint(append(digits[:0], run...), n, 36)
		for i := keep; i < len(b); i++ {
			b[i] = '0'
		}
		copy(b[len(b)-len(d):], d)
		return b
	}
	into.record = number(into.record, t.record, strings.LastIndexByte(t.record, ':')+1)
	into.lock = append(append(into.lock[:0], into.record...), strings.TrimPrefix(t.lock, t.record)...)
	into.token = number(into.token, t.token, 0)
	into.key = number(into.key, exampleKey, 0)
}

// appendCommand appends a command in the wire format.
func (n *names) appendCommand(b []byte, command []word) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(command)), 10), '\r', '\n')
	for _, w := range command {
		if len(w) == 1 && w[0].hole == fixed {
			b = appendWord(b, w[0].text)
		} else {
			n.word = n.appendParts(n.word[:0], w)
			b = appendWord(b, n.word)
		}
	}
	return b
}

// appendParts appends the text of a word.
func (n *names) appendParts(b []byte, w word) []byte {
	for _, p := range w {
		switch p.hole {
		case key:
			b = append(b, n.key...)
		case record:
			b = append(b, n.record...)
		case lock:
			b = append(b, n.lock...)
		case token:
			b = append(b, n.token...)
		case fence:
			b = append(b, n.fence...)
		default:
			b = append(b, p.text...)
		}
	}
	return b
}

func appendWord[T string | []byte](b []byte, w T) []byte {
	b = append(strconv.AppendInt(append(b, '$'), int64(len(w)), 10), '\r', '\n')
	return append(append(b, w...), '\r', '\n')
}
