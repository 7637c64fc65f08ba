package protocol

import (
	"context"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// Call is one invocation of a script.
type Call struct {
	script *lua.Script
	keys   int    // how many keys it has
	key    string // the first key, which decides where the call goes
	nonce  string // the first argument, which the reply echoes
	// words are the command: the verb, the script's name, the number of keys, the keys, the nonce,
	// the other arguments. They never change after the call has run, since the command may outlive
	// it.
	words []any
	// durable makes the call wait for Options.Durability replicas.
	durable bool
	// lock is the key's lock if the call can run with the record alone while its slot migrates; ""
	// if it cannot.
	lock string
}

// newCall makes the invocation of a script on some keys, with room for further arguments.
func newCall(script *lua.Script, nonce string, room int, keys ...string) Call {
	words := append(make([]any, 0, 4+len(keys)+room), "evalsha", script.SHA, len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	c := Call{script: script, keys: len(keys), key: keys[0], nonce: nonce, words: append(words, nonce)}
	switch script {
	case lua.Claim, lua.Renew, lua.Commit, lua.Abandon:
		if len(keys) == 2 {
			c.lock = keys[1]
		}
	}
	return c
}

// arg returns the index of ARGV[n] among the words.
func (c *Call) arg(n int) int { return 2 + c.keys + n }

// add appends arguments.
func (c *Call) add(args ...any) { c.words = append(c.words, args...) }

// WithoutKeep returns a commit that does not keep the lease, and whether c would have kept it.
func (c Call) WithoutKeep() (without Call, kept bool) {
	before, _ := c.words[c.arg(commitFlags)].(string)
	flags := strings.ReplaceAll(before, flagKeep, "")
	c.words = slices.Clone(c.words)
	c.words[c.arg(commitFlags)] = flags
	return c, flags != before
}

// command makes the call's command. It names the script by its hash, or contains the text if the
// server does not have the script.
func (c *Call) command(ctx context.Context, text bool) callCmd {
	words := c.words
	if text {
		words = slices.Clone(words)
		words[0], words[1] = "eval", c.script.Source
	}
	return callCmd{redis.NewStringSliceCmd(ctx, words...)}
}

// callCmd and lockCmd are commands that go-redis does not repeat, whatever the client's options
// are. The code that counts the tries must know whether an earlier one may have been applied.
type (
	callCmd struct{ *redis.StringSliceCmd }
	lockCmd struct{ *redis.Cmd }
)

// NoRetry implements [redis.Cmder].
func (callCmd) NoRetry() bool { return true }

// NoRetry implements [redis.Cmder].
func (lockCmd) NoRetry() bool { return true }

// Run invokes a script, and repeats it until there is an answer or ctx ends. ctx must have a
// deadline.
func (c *Client) Run(ctx context.Context, call Call) (Reply, error) {
	var answer Reply
	err := Repeat(ctx, func(ctx context.Context) (err error) {
		answer, err = c.once(ctx, call)
		if redis.IsTryAgainError(err) && call.lock != "" {
			answer, err = c.runInSteps(ctx, call)
		}
		return err
	})
	return answer, wrongType(err)
}

// once invokes a script without repetition, in the form that the server accepts.
func (c *Client) once(ctx context.Context, call Call) (Reply, error) {
	text := false
	for {
		cmd := call.command(ctx, text)
		acks, err := c.send(ctx, call.durable, call.key, []redis.Cmder{cmd})
		switch {
		case err == nil:
			answer, err := call.read(cmd)
			answer.Acks = acks
			return answer, err
		case redis.HasErrorPrefix(err, "NOSCRIPT") && !text:
			text = true
		case redis.IsOOMError(err) && call.script.AllowOOM() != nil:
			call.script, text = call.script.AllowOOM(), true
		default:
			return Reply{}, err
		}
	}
}
