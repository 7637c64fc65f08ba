package redisidem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

// right is a command that the Redis user must be permitted to run.
type right struct {
	command   string // as ACL SETUSER takes it behind a plus
	arguments string // of an example; the word "key" stands for a Redis key, "channel" for a channel
	use       use
}

// use is the part of the library that needs a right.
type use int

// The uses. A right for connecting is not checked: without it there is no connection, or go-redis
// does without. A right for an Inspector is not checked, because operators have users of their own.
const (
	forConnecting use = iota
	forInspecting
	forAll
	forFlows
	forWaiting
	forDurability
	forChecking
	forClusters
	forEffects
	uses
)

// needs says what a missing right is needed for.
var needs = [uses]string{
	forFlows: " that flows with RecoverAfter need", forWaiting: " that Wait and CacheBytes need",
	forDurability: " that Durability needs", forChecking: " that Check needs", forClusters: " that clusters need",
	forEffects: " that effects need",
}

// rights are all commands that the library sends and that its scripts run, each under the first use
// that needs it. docs/security.md lists the same.
var rights = []right{
	{"hello", "", forConnecting},
	{"auth", "", forConnecting},
	{"client|setname", "", forConnecting},
	{"client|setinfo", "", forConnecting},
	{"client|maint_notifications", "", forConnecting},
	{"unsubscribe", "", forConnecting},

	{"eval", "script 1 key", forAll},
	{"evalsha", "sha 1 key", forAll},
	{"msetnx", "key value", forAll},
	{"mset", "key value", forAll},
	{"getrange", "key 0 1", forAll},
	{"set", "key value", forAll},
	{"get", "key", forAll},
	{"del", "key", forAll},
	{"exists", "key", forAll},
	{"type", "key", forAll}, // of effects; without it the outcome of a commit would be unknown
	{"time", "", forAll},
	{"pexpire", "key 1", forAll},
	{"pexpireat", "key 1", forAll},
	{"pexpiretime", "key", forAll},
	{"pttl", "key", forAll},
	{"hset", "key field value", forAll},
	{"hget", "key field", forAll},
	{"hmget", "key field", forAll},
	{"hgetall", "key", forAll},
	{"hdel", "key field", forAll},

	{"zadd", "key 1 member", forFlows},
	{"zrem", "key member", forFlows},
	{"zscore", "key member", forFlows},
	{"zscan", "key 0", forFlows},
	{"zrange", "key 0 1", forFlows},
	{"zrangebyscore", "key 0 1", forFlows},
	{"zremrangebyscore", "key 0 1", forFlows},

	{"publish", "channel message", forWaiting},
	{"subscribe", "channel", forWaiting},
	{"ping", "", forWaiting},

	{"wait", "1 1", forDurability},

	{"info", "", forChecking},

	{"xadd", "key * field value", forEffects},
	{"xinfo|stream", "key", forEffects},
	{"incrby", "key 1", forEffects},
	{"sadd", "key member", forEffects},
	{"lpush", "key value", forEffects},

	{"scan", "0", forInspecting},
	{"dbsize", "", forInspecting},
	{"randomkey", "", forInspecting},
	{"multi", "", forInspecting},
	{"exec", "", forInspecting},
	{"zcount", "key 0 1", forInspecting},
	{"xrange", "key - +", forInspecting},
	{"xrevrange", "key + -", forInspecting},

	{"cluster|slots", "", forClusters},
	{"cluster|shards", "", forConnecting},
	{"asking", "", forClusters},
	{"readonly", "", forConnecting},
}

// target is a kind of Redis keys or of channels.
type target struct {
	kind    string // the word that stands for it in the arguments of a right
	pattern string // what permits it, as ACL SETUSER takes it
	example string
	use     use
}

func (s *Service) targets() []target {
	n := s.cfg.Namespace
	id := protocol.Identify(n, "", "", protocol.DigestOf("redisidem/check", "rights"))
	return []target{
		{"key", "~" + n + ":{*}:*", id.Record, forAll},
		{"key", "~" + n + ":{*}:*:lock", id.Lock, forAll},
		{"key", "~" + n + ":{*}:due:*", id.DueIndex("check"), forFlows},
		{"key", "~" + n + ":{*}:dead:*", id.DeadLetters("check"), forFlows},
		{"key", "~" + n + ":turn:*", protocol.TurnsKey(n), forFlows},
		{"key", "~" + n + ":{*}:x:*", id.ShardKey("check"), forEffects},
		{"channel", "&" + n + ":wake:*", s.listener.channel, forWaiting},
		{"channel", "&" + n + ":deleted", protocol.DeletedChannel(n), forWaiting},
	}
}

// inUse reports whether this service, as it is configured, may need the rights of a use.
func (s *Service) inUse(u use) bool {
	switch u {
	case forConnecting, forInspecting:
		return false
	case forWaiting:
		return s.cfg.Wait > 0 || s.cfg.CacheBytes > 0
	case forDurability:
		return s.cfg.Durability > 0
	case forClusters:
		_, cluster := s.client.(*redis.ClusterClient)
		return cluster
	default:
		return true
	}
}

// trial is a right on a target, or without one.
type trial struct {
	right  right
	target target
}

// words returns the command of a trial.
func (t trial) words() string {
	words := strings.Replace(t.right.command, "|", " ", 1) + " " + t.right.arguments
	if t.target.kind != "" {
		words = strings.Replace(words, " "+t.target.kind, " "+t.target.example, 1)
	}
	return words
}

// checkRights asks a server what this client's user may do there.
func (s *Service) checkRights(ctx context.Context, node *redis.Client) (Finding, error) {
	f := Finding{Node: node.Options().Addr, Subject: "rights", Verdict: VerdictGood, Detail: "all commands are permitted"}
	targets := s.targets()
	var trials []trial
	for _, r := range rights {
		if !s.inUse(r.use) {
			continue
		}
		aimed := false
		for _, p := range targets {
			if strings.Contains(r.arguments, p.kind) {
				aimed = true
				// Each kind of keys has commands of its own, and pexpire.
				if r.use == p.use || r.command == "pexpire" {
					trials = append(trials, trial{r, p})
				}
			}
		}
		if !aimed {
			trials = append(trials, trial{right: r})
		}
	}
	words := append(make([]any, 0, 4+len(trials)), "eval", lua.Permissions.Source, 0, protocol.NewToken())
	for _, t := range trials {
		words = append(words, t.words())
	}
	reply, err := node.Do(ctx, words...).Text()
	var refused redis.Error
	switch {
	case redis.IsPermissionError(err):
		f.Verdict, f.Detail = VerdictFailure, notPermittedError{err}.Error()
		return f, nil
	case errors.As(err, &refused):
		f.Verdict, f.Detail = VerdictUndetermined, "the server does not report its user's rights: "+err.Error()
		return f, nil
	case err != nil:
		return f, err
	}
	denied := make(map[trial]bool)
	numbers := strings.Fields(reply)
	for _, word := range numbers[min(2, len(numbers)):] {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n >= len(trials) {
			return f, fmt.Errorf("redisidem: the server's answer about rights is %q", word)
		}
		denied[trials[n]] = true
	}
	if len(denied) > 0 {
		f.Verdict, f.Detail = lacking(trials, denied)
	}
	return f, nil
}

// lacking names the rules of an ACL that are missing. A command that is denied everywhere is one,
// and so is the pattern of a target where everything is denied; what remains is named with both.
func lacking(trials []trial, denied map[trial]bool) (verdict Verdict, detail string) {
	every := func(of func(trial) bool) bool {
		return !slices.ContainsFunc(trials, func(t trial) bool { return of(t) && !denied[t] })
	}
	closed := func(p target) bool {
		return p.pattern != "" && every(func(t trial) bool { return t.target == p })
	}
	var rules [uses][]string
	add := func(u use, rule string) {
		if !slices.Contains(rules[u], rule) {
			rules[u] = append(rules[u], rule)
		}
	}
	for _, t := range trials {
		command := "+" + t.right.command
		elsewhere := func(o trial) bool { return o.right == t.right && !closed(o.target) }
		switch {
		case !denied[t]:
		case closed(t.target):
			add(t.target.use, t.target.pattern)
			if !slices.ContainsFunc(trials, elsewhere) { // no target is left that shows whether the command is denied, too
				add(t.right.use, command)
			}
		case every(elsewhere):
			add(t.right.use, command)
		default:
			add(t.right.use, command+" on "+t.target.pattern)
		}
	}
	verdict = VerdictWarning
	var parts []string
	for u, missing := range rules {
		if len(missing) == 0 {
			continue
		}
		if needed := use(u); needed == forAll || needed == forDurability || needed == forClusters {
			verdict = VerdictFailure
		}
		parts = append(parts, fmt.Sprintf("the Redis user lacks a right%s: %s", needs[u], strings.Join(missing, ", ")))
	}
	return verdict, strings.Join(parts, "; ")
}
