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
	space *callSpace
	// durable makes the call wait for Options.Durability replicas.
	durable bool
	// lock is the key's lock if the call can run with the record alone while its slot migrates; ""
	// if it cannot.
	lock string
}

// callSpace is the memory of a call's words, in one allocation for all of them. A call with more
// words allocates further ones. Go-redis sends a pointer to a text or a number as the text or the
// number, so neither needs an allocation of its own.
type callSpace struct {
	words   [20]any // of most calls with a flow; 12 are those of most others
	texts   [7]string
	numbers [1]int64
	// used counts the texts and the numbers.
	used struct{ texts, numbers int }
}

// newCall makes the invocation of a script on some keys.
func newCall(script *lua.Script, nonce string, keys ...string) Call {
	space := new(callSpace)
	words := append(space.words[:0], "evalsha", script.Word(), len(keys))
	for _, k := range keys {
		words = append(words, k) // not as a pointer: hooks read the keys of commands
	}
	c := Call{script: script, keys: len(keys), key: keys[0], nonce: nonce, words: words, space: space}
	c.addTexts(nonce)
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

// addTexts appends texts.
func (c *Call) addTexts(texts ...string) {
	for _, text := range texts {
		used := &c.space.used.texts
		if *used == len(c.space.texts) {
			c.words = append(c.words, text)
			continue
		}
		c.space.texts[*used] = text
		c.words = append(c.words, &c.space.texts[*used])
		*used++
	}
}

// addNumbers appends numbers.
func (c *Call) addNumbers(numbers ...int64) {
	for _, n := range numbers {
		used := &c.space.used.numbers
		if *used == len(c.space.numbers) {
			c.words = append(c.words, n)
			continue
		}
		c.space.numbers[*used] = n
		c.words = append(c.words, &c.space.numbers[*used])
		*used++
	}
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
