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
	nonce  string // the first argument, which the reply echoes
	// words are the command: the verb, the script's name, the number of keys, the keys, the nonce,
	// the other arguments. They never change after the call has run, since the command may outlive
	// it.
	words []any
	// texts has room for texts that words points to, and number is room for a number, or nil if it
	// is used. Go-redis sends a pointer to a text or a number as the text or the number, so neither
	// needs an allocation of its own.
	texts  []string
	number *int64
	// durable makes the call wait for Options.Durability replicas.
	durable bool
	// stepwise means that the call can run with the record alone while its slot migrates. The
	// second key is the key's lock then.
	stepwise bool
}

// shortCall is the memory of a call with few words, in one allocation. Further words are allocated
// when they are added.
type shortCall struct {
	words  [12]any
	texts  [4]string
	number int64
}

// longCall is the memory of a call with more words, such as one about a flow, or a commit of a
// response with a header.
type longCall struct {
	words  [20]any
	texts  [7]string
	number int64
}

// newCall makes the invocation of a script on some keys. It has room for few words, or for more if
// there are more keys than a record and its lock.
func newCall(script *lua.Script, nonce string, keys ...string) Call {
	return newSizedCall(script, len(keys) > 2, nonce, keys...)
}

// newSizedCall is newCall for a caller that knows whether the call has many words.
func newSizedCall(script *lua.Script, long bool, nonce string, keys ...string) Call {
	c := Call{script: script, keys: len(keys), nonce: nonce}
	if !long {
		m := new(shortCall)
		c.words, c.texts, c.number = m.words[:0], m.texts[:0], &m.number
	} else {
		m := new(longCall)
		c.words, c.texts, c.number = m.words[:0], m.texts[:0], &m.number
	}
	c.words = append(c.words, "evalsha", script.Word(), len(keys))
	for _, k := range keys {
		c.words = append(c.words, k) // not as a pointer: hooks read the keys of commands
	}
	c.addTexts(nonce)
	switch script {
	case lua.Claim, lua.Renew, lua.Commit, lua.Abandon:
		c.stepwise = len(keys) == 2
	}
	return c
}

// key returns the n-th key, counted from 0. The first one decides where the call goes.
func (c *Call) key(n int) string {
	return c.words[3+n].(string) //nolint:forcetypeassert // newSizedCall adds no others
}

// lock returns the key's lock, for a stepwise call.
func (c *Call) lock() string { return c.key(1) }

// arg returns the index of ARGV[n] among the words.
func (c *Call) arg(n int) int { return 2 + c.keys + n }

// add appends arguments.
func (c *Call) add(args ...any) { c.words = append(c.words, args...) }

// addTexts appends texts.
func (c *Call) addTexts(texts ...string) {
	for _, text := range texts {
		n := len(c.texts)
		if n == cap(c.texts) {
			c.words = append(c.words, text)
			continue
		}
		c.texts = append(c.texts, text)
		c.words = append(c.words, &c.texts[n])
	}
}

// addNumber appends a number.
func (c *Call) addNumber(n int64) {
	if c.number == nil {
		c.words = append(c.words, n)
		return
	}
	*c.number = n
	c.words = append(c.words, c.number)
	c.number = nil
}

// WithoutKeep returns a commit that does not keep the lease, and whether c would have kept it.
func (c Call) WithoutKeep() (without Call, kept bool) {
	if len(c.words) <= c.arg(commitFlags) {
		return c, false
	}
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
	return callCmd{redis.NewStringCmd(ctx, words...)}
}

// callCmd is a command that go-redis does not repeat, whatever the client's options are. The code
// that counts the tries must know whether an earlier one may have been applied.
type callCmd struct{ *redis.StringCmd }

// NoRetry implements [redis.Cmder].
func (callCmd) NoRetry() bool { return true }

// Run invokes a script, and repeats it until there is an answer or ctx ends. ctx must have a
// deadline.
func (c *Client) Run(ctx context.Context, call Call) (Reply, error) {
	var answer Reply
	err := Repeat(ctx, func(ctx context.Context) (err error) {
		answer, err = c.once(ctx, call)
		if redis.IsTryAgainError(err) && call.stepwise {
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
		acks, err := c.sendCall(ctx, &call, cmd)
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

// sendCall sends a call's command. It returns how many replicas acknowledged it, or as many as are
// needed if the call does not wait for them.
func (c *Client) sendCall(ctx context.Context, call *Call, cmd redis.Cmder) (acks int, err error) {
	if call.durable {
		return c.sendDurably(ctx, call.key(0), cmd)
	}
	return c.durability, c.send(ctx, cmd)
}
