// Package limit finds out what the server itself can do: the commands of a lifecycle from a bare socket in deep pipelines,
// with nothing else around them.
package limit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// hole is what a word of a template stands for.
type hole int

const (
	fixed  hole = iota
	key         // the idempotency key
	record      // the record's name in Redis
	lock        // the lock's
	token
	fence
)

// word is one word of a command: a fixed text, or a hole to be filled.
type word struct {
	hole hole
	text string // for a hole: an example
}

// Template is the commands of one lifecycle, as this library has sent them: obtain and claim, and then commit.
type Template struct {
	Obtain, Claim, Commit []word
}

const (
	exampleKey  = "an-example-of-a-key-000000"
	exampleSize = 200
)

// Capture watches a lifecycle of the library's on a server that this call may write to, and makes a template of it.
func Capture(ctx context.Context, client *redis.Client, namespace string) (*Template, error) {
	svc, err := redisidem.New(client, &redisidem.Config{Namespace: namespace, Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	defer func() { _ = svc.Close(ctx) }() // nothing is under way
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
	ear := &ear{}
	client.AddHook(ear)
	defer ear.stop()
	if err := run(exampleKey); err != nil {
		return nil, err
	}
	if len(ear.heard) != 3 {
		return nil, fmt.Errorf("a lifecycle has %d commands, not obtain, claim and commit", len(ear.heard))
	}
	claim, commit := ear.heard[1], ear.heard[2]
	// evalsha, sha, 2, record, lock, token, ...: the rest is found by its value.
	if len(claim) < 6 || len(commit) < 7 {
		return nil, errors.New("the commands of a lifecycle are not what was expected")
	}
	holes := map[string]hole{exampleKey: key, claim[3]: record, claim[4]: lock, claim[5]: token, commit[6]: fence}
	return &Template{
		Obtain: words(ear.heard[0], holes), Claim: words(claim, holes), Commit: words(commit, holes),
	}, nil
}

// params is the body of each request, the same as in the scenarios.
var params = []byte(`{"cart":"8f14e45f","amount":4200,"currency":"EUR","note":"ring twice"}`)

func words(command []string, holes map[string]hole) []word {
	all := make([]word, len(command))
	for i, text := range command {
		all[i] = word{holes[text], text}
	}
	return all
}

// ear is a hook that hears commands.
type ear struct {
	mu    sync.Mutex
	deaf  bool
	heard [][]string
}

func (e *ear) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deaf = true
}

func (e *ear) hear(cmd redis.Cmder) {
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
		default:
			text = append(text, fmt.Sprint(v))
		}
	}
	e.heard = append(e.heard, text)
}

// DialHook implements [redis.Hook].
func (e *ear) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (e *ear) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		e.hear(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (e *ear) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			e.hear(cmd)
		}
		return next(ctx, cmds)
	}
}

// names are what the holes of one lifecycle are filled with.
type names struct {
	key, record, lock, token, fence []byte
}

// fill makes the names of the n-th lifecycle, of the same lengths as the examples.
func (t *Template) fill(into *names, run string, n uint64) {
	number := func(b []byte, example string, keep int) []byte {
		// The example up to keep, then filling, then the run and the number.
		b = append(b[:0], example...)
		var digits [40]byte
		d := strconv.AppendUint(append(digits[:0], run...), n, 36)
		for i := keep; i < len(b); i++ {
			b[i] = '0'
		}
		copy(b[len(b)-len(d):], d)
		return b
	}
	example := t.Claim[3].text
	into.record = number(into.record, example, strings.LastIndexByte(example, ':')+1)
	into.lock = append(append(into.lock[:0], into.record...), ":lock"...)
	into.token = number(into.token, t.Claim[5].text, 0)
	into.key = number(into.key, exampleKey, 0)
}

// appendCommand appends a command as it goes over the wire.
func (n *names) appendCommand(b []byte, command []word) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(command)), 10), '\r', '\n')
	for _, w := range command {
		switch w.hole {
		case key:
			b = appendWord(b, n.key)
		case record:
			b = appendWord(b, n.record)
		case lock:
			b = appendWord(b, n.lock)
		case token:
			b = appendWord(b, n.token)
		case fence:
			b = appendWord(b, n.fence)
		default:
			b = appendWord(b, w.text)
		}
	}
	return b
}

func appendWord[T string | []byte](b []byte, w T) []byte {
	b = append(strconv.AppendInt(append(b, '$'), int64(len(w)), 10), '\r', '\n')
	return append(append(b, w...), '\r', '\n')
}
