package redisidem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// status is the first word of a script's reply.
type status string

// The statuses of all scripts; each file in package lua says which are its own.
const (
	statusOK        status = "OK"
	statusCreated   status = "CREATED"
	statusFound     status = "FOUND"
	statusOwn       status = "OWN"
	statusBusy      status = "BUSY"
	statusDone      status = "DONE"
	statusInterim   status = "INTERIM"
	statusMoved     status = "MOVED"
	statusStale     status = "STALE"
	statusGone      status = "GONE"
	statusLost      status = "LOST"
	statusFenced    status = "FENCED"
	statusForgotten status = "FORGOTTEN"
	statusMismatch  status = "MISMATCH"
	statusOther     status = "OTHER"
	statusUnknown   status = "UNKNOWN"
	statusEffect    status = "EFFECT"
	statusAlive     status = "ALIVE"
	statusLater     status = "LATER"
	statusLetter    status = "LETTER"
	statusDamaged   status = "DAMAGED"
)

// The flags that several scripts take, as letters in one argument.
const (
	flagDurable = "d" // the caller waits for replicas
	flagKeep    = "k" // keep the lease
	flagLife    = "l" // tell how long a finished record lives
	flagParams  = "p" // the caller does not have the params of a finished record
	flagClean   = "c" // the caller is a completer, which cleans the due index
	flagJournal = "j" // a flow may compensate by the journal
	flagUndoing = "u" // a flow compensates by the journal
	flagIdle    = "n" // nothing was done: the attempt at the stage does not count
	flagUnbegun = "a" // no callback has begun under the lease: it is not among all attempts at the key
	flagSpared  = "s" // it was stopped by a shutdown: the attempt does not use one up
	flagRefused = "r" // no program could work on the key or read it
	flagRevived = "b" // the key is a dead letter, which a commit carries on
	flagWaited  = "w" // how long the caller has waited follows
	flagByHand  = "h" // the caller does not know whether the key's flow is recoverable: the due index says so
)

// call is one invocation of a script.
type call struct {
	script *lua.Script
	keys   int    // how many keys it has
	key    string // the first of them, which says where the call goes
	nonce  string // the first argument, which the reply echoes
	// words are the command's: the verb, the script's name, the number of keys, the keys, the nonce, the other arguments.
	// Once the call has run they never change, since the command may outlive it.
	words []any
	// durable makes the call wait for Config.Durability replicas.
	durable bool
	// lock is the key's lock, if the call can do with the record alone while its slot is split; "" if it cannot.
	lock string
}

// newCall makes the invocation of a script on some keys, with room for further arguments.
func newCall(script *lua.Script, nonce string, room int, keys ...string) call {
	words := append(make([]any, 0, 4+len(keys)+room), "evalsha", script.SHA, len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	c := call{script: script, keys: len(keys), key: keys[0], nonce: nonce, words: append(words, nonce)}
	switch script {
	case lua.Claim, lua.Renew, lua.Commit, lua.Abandon:
		if len(keys) == 2 {
			c.lock = keys[1]
		}
	}
	return c
}

// arg returns the place of ARGV[n] among the words.
func (c *call) arg(n int) int { return 2 + c.keys + n }

// add appends arguments.
func (c *call) add(args ...any) { c.words = append(c.words, args...) }

// reply is a script's answer.
type reply struct {
	status  status
	numbers string   // what follows the echo in the first element, separated by spaces
	rest    []string // the other elements
	acks    int      // replicas that acknowledged
}

// number returns the n-th of the reply's numbers, counted from 0; "" when there are fewer.
func (r reply) number(n int) string {
	word, rest, _ := strings.Cut(r.numbers, " ")
	for range n {
		word, rest, _ = strings.Cut(rest, " ")
	}
	return word
}

// command makes the call's command, by the script's name or, when the server does not have the script, with its text.
func (c *call) command(ctx context.Context, text bool) callCmd {
	words := c.words
	if text {
		words = slices.Clone(words)
		words[0], words[1] = "eval", c.script.Source
	}
	return callCmd{redis.NewStringSliceCmd(ctx, words...)}
}

// callCmd and lockCmd are commands that go-redis does not repeat by itself, whatever the client's options: only who counts the
// tries can tell whether an earlier one may have been applied.
type (
	callCmd struct{ *redis.StringSliceCmd }
	lockCmd struct{ *redis.Cmd }
)

// NoRetry implements [redis.Cmder].
func (callCmd) NoRetry() bool { return true }

// NoRetry implements [redis.Cmder].
func (lockCmd) NoRetry() bool { return true }

// errForeignReply means that a connection is out of step: what it delivered was meant for another call.
var errForeignReply = errors.New("the reply is another call's")

// read takes the answer out of a command that has been sent.
func (c *call) read(cmd callCmd) (reply, error) {
	words, err := cmd.Result()
	if err != nil {
		return reply{}, err
	}
	if len(words) == 0 {
		return reply{}, errForeignReply
	}
	first, rest, _ := strings.Cut(words[0], " ")
	echo, numbers, _ := strings.Cut(rest, " ")
	if echo != c.nonce {
		return reply{}, errForeignReply
	}
	r := reply{status: status(first), numbers: numbers, rest: words[1:]}
	if r.status == statusDamaged && len(r.rest) > 0 {
		if deniedInScript(r.rest[0]) {
			return reply{}, scriptError(r.rest[0]) // nobody knows what the record is
		}
		return reply{}, damaged("%s", r.rest[0])
	}
	return r, nil
}

// need checks that a reply has the element behind its first, which the caller is going to read.
func (r reply) need() error {
	if len(r.rest) == 0 {
		return fmt.Errorf("redisidem: the server's %s reply has 1 element, not 2", r.status)
	}
	return nil
}

// run invokes a script, again and again until there is an answer or ctx ends. ctx must have a deadline.
func (s *Service) run(ctx context.Context, c call) (reply, error) {
	var answer reply
	err := repeat(ctx, func(ctx context.Context) (err error) {
		answer, err = s.once(ctx, c)
		if redis.IsTryAgainError(err) && c.lock != "" {
			answer, err = s.runSplit(ctx, c)
		}
		return err
	})
	return answer, wrongType(err)
}

// once invokes a script, in whatever form the server takes it.
func (s *Service) once(ctx context.Context, c call) (reply, error) {
	text := false
	for {
		cmd := c.command(ctx, text)
		acks, err := s.send(ctx, c.durable, c.key, []redis.Cmder{cmd})
		switch {
		case err == nil:
			answer, err := c.read(cmd)
			answer.acks = acks
			return answer, err
		case redis.HasErrorPrefix(err, "NOSCRIPT") && !text:
			text = true
		case redis.IsOOMError(err) && c.script.AllowOOM() != nil:
			c.script, text = c.script.AllowOOM(), true
		default:
			return reply{}, err
		}
	}
}

// unexpected is the error for a status that a script does not have: its text and this library do not fit.
func (r reply) unexpected(script *lua.Script) error {
	return fmt.Errorf("redisidem: %s answered %q", script.Name, r.status)
}

// explain turns the error of an operation on Redis into one that callers know. caller is the context of whoever asked.
func explain(caller context.Context, op string, err error) error {
	if err == nil || errors.Is(err, ErrDamaged) || errors.Is(err, ErrLeaseLost) {
		return err
	}
	return unavailable(caller, op, err)
}

// errAgain asks repeat for another try of something that was not applied.
var errAgain = errors.New("not applied yet")

// send hands commands to the transport that fits, unless ctx has ended: go-redis sends them all the same.
func (s *Service) send(ctx context.Context, wait bool, key string, cmds []redis.Cmder) (acks int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, unsentError{err}
	}
	if wait && s.cfg.Durability > 0 {
		return durable{s.client, s.cfg.Durability}.send(ctx, key, cmds)
	}
	return s.cfg.Durability, s.transport.send(ctx, cmds)
}

// settled reports whether enough replicas acknowledged the writes behind a reply.
func (s *Service) settled(r reply) error {
	if r.acks < s.cfg.Durability {
		return &NotDurableError{Acknowledged: r.acks, Wanted: s.cfg.Durability}
	}
	return nil
}

func wrongType(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return damaged("%v", err)
	}
	return err
}

// obtain takes the lock of a key through redislock, with the claim script right behind it in the same pipeline: one round
// trip. The claim's reply tells everything, also when the lock was not obtained.
func (s *Service) obtain(ctx context.Context, id identity, claim call, by *claimant) (reply, error) {
	o := &obtainer{service: s, claim: claim, fresh: !by.asked}
	by.asked = true
	err := repeat(ctx, func(ctx context.Context) error {
		_, err := redislock.New(o).Obtain(ctx, id.lock, s.cfg.Lease, &redislock.Options{Token: claim.nonce})
		switch {
		case errors.Is(err, redislock.ErrNotObtained):
			return nil
		case err == nil && o.reply.status == statusBusy:
			// The claim came before the lock, or long after: the pair was torn apart on its way, as when the client
			// sends one of them again. The same token gets both.
			err = errAgain
		case redis.IsTryAgainError(err) && claim.lock != "":
			o.reply, err = s.claimSplit(ctx, claim)
		}
		err = wrongType(err)
		by.open = by.open || err != nil && o.sent && !errors.Is(err, ErrDamaged)
		return err
	})
	return o.reply, err
}

// needsLock reports whether the reply to a claim would be another one if the lock had been obtained.
func (r reply) needsLock() bool {
	free := strings.HasPrefix(r.number(0), "-") // the lock's remaining time
	return r.status == statusOwn || r.status == statusBusy && free
}

// obtainer is the client that redislock works with. It lets what redislock sends be followed by the claim, and takes the
// whole pair for failed when either is: redislock then sends its script with its text, and so does the claim.
//
// All that redislock's script does for a token that no server has seen is SET NX PX. The first time this command goes in its
// place, which is an eighth of what a lifecycle costs the server; the script is for repetitions, which may find the lock theirs.
type obtainer struct {
	redis.Scripter // none of the methods that redislock's Obtain does not use
	service        *Service
	claim          call
	fresh          bool // no server has seen the token
	sent           bool // a server may have seen the token: the lock is taken before the script turns out to be unknown
	reply          reply
}

// EvalSha implements [redis.Scripter].
func (o *obtainer) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if o.fresh && len(keys) == 1 && len(args) == 3 { // the token, its length, milliseconds
		o.fresh = false
		return o.pair(ctx, redis.NewCmd(ctx, "set", keys[0], args[0], "nx", "px", args[2]), false)
	}
	return o.pair(ctx, evaluation(ctx, "evalsha", sha, keys, args), false)
}

// Eval implements [redis.Scripter].
func (o *obtainer) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return o.pair(ctx, evaluation(ctx, "eval", script, keys, args), true)
}

// pair sends the lock's command, and the claim behind it.
func (o *obtainer) pair(ctx context.Context, lock *redis.Cmd, text bool) *redis.Cmd {
	claim := o.claim.command(ctx, text)

	acks, err := o.service.send(ctx, o.claim.durable, o.claim.key, []redis.Cmder{lockCmd{lock}, claim})
	o.sent = o.sent || err == nil || !unsent(err)
	full := redis.IsOOMError(err) // which says that all commands have their results
	if full {
		err = claim.Err() // NOSCRIPT, perhaps, after which both are sent with their texts
	}
	if err == nil {
		o.reply, err = o.claim.read(claim)
		o.reply.acks = acks
	}
	if full && err == nil {
		// Only a lease takes memory. What else the claim says holds without the lock.
		err = redis.Nil
		if o.reply.needsLock() {
			err = lock.Err()
		}
	}
	if err != nil {
		// A command of its own: the one that was sent may still be written to when ctx has ended.
		failed := redis.NewCmd(ctx)
		failed.SetErr(err)
		return failed
	}
	return lock
}

// evaluation makes the command that redislock asks for.
func evaluation(ctx context.Context, verb, script string, keys []string, args []any) *redis.Cmd {
	words := make([]any, 0, 3+len(keys)+len(args))
	words = append(words, verb, script, len(keys))
	for _, k := range keys {
		words = append(words, k)
	}
	return redis.NewCmd(ctx, append(words, args...)...)
}
