package protocol

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
)

// MaxPauses is how many pauses there can be at once. Each turn of a completer returns the flows.
const MaxPauses = 64

// pausesField is the field of the turns with the pauses. It is the name of no flow.
const pausesField = "#"

// resumesLife is how long it is known when flows were resumed. No key waits for longer.
const resumesLife = auditLife

// Pause says that a flow is paused.
type Pause struct {
	Flow          string // name or name/version
	Clients       bool   // whether it is for clients, too
	At            time.Time
	Actor, Reason string
}

// Of reports whether the pause is one of that flow, given as name/version.
func (p Pause) Of(flow string) bool {
	return p.Flow == flow || strings.HasPrefix(flow, p.Flow+"/")
}

// NewPause makes the call that pauses a flow.
func (c *Client) NewPause(flow string, clients bool, a *Audit) Call {
	call := newCall(lua.Pause, NewToken(), TurnsKey(c.namespace))
	who := "0"
	if clients {
		who = "1"
	}
	call.add(flow, who, a.Actor, a.Reason, MaxPauses)
	return call.audited(flowAuditStream(c.namespace), flow, a)
}

// NewResume makes the call that ends the pause of a flow.
func (c *Client) NewResume(flow string, a *Audit) Call {
	call := newCall(lua.Resume, NewToken(), TurnsKey(c.namespace), resumesKey(c.namespace))
	name, _, _ := strings.Cut(flow, "/")
	call.add(flow, name, resumesLife.Milliseconds())
	return call.audited(flowAuditStream(c.namespace), flow, a)
}

// Resumed returns when a pause of the flow, given as name/version, last ended, by the server's
// clock. It is the zero time if that is not known. ctx must have a deadline.
func (c *Client) Resumed(ctx context.Context, flow string) (last time.Time, err error) {
	key := resumesKey(c.namespace)
	err = Repeat(ctx, func(ctx context.Context) error {
		cmd := redis.NewSliceCmd(ctx, "hmget", key, FlowName(flow), flow)
		if err := c.send(ctx, cmd); err != nil {
			return err
		}
		for _, value := range cmd.Val() {
			text, _ := value.(string)
			if at, err := parseTime("resumes", text); err == nil && at.After(last) {
				last = at
			}
		}
		return nil
	})
	return last, wrongType(err)
}

// Pauses returns the pauses that are in force. ctx must have a deadline.
func (c *Client) Pauses(ctx context.Context) (pauses []Pause, err error) {
	key := TurnsKey(c.namespace)
	err = Repeat(ctx, func(ctx context.Context) error {
		cmd := redis.NewSliceCmd(ctx, "hmget", key, pausesField) // which operators that only read may use
		if err := c.send(ctx, cmd); err != nil {
			return err
		}
		text, _ := cmd.Val()[0].(string)
		pauses = parsePauses(text)
		return nil
	})
	return pauses, wrongType(err)
}

// parsePauses reads pauses in the form in which the pause script writes them. It leaves out lines
// of another form.
func parsePauses(text string) (pauses []Pause) {
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 5)
		if len(words) != 5 {
			continue
		}
		at, err := parseTime("pause", words[2])
		if err != nil {
			continue
		}
		pauses = append(pauses, Pause{Flow: words[0], Clients: words[1] == "1", At: at, Actor: words[3], Reason: words[4]})
	}
	return pauses
}

// Prolong lets the records in a due index, and the index, live for as long as after a claim. ctx
// bounds the operation.
func (c *Client) Prolong(ctx context.Context, index string) error {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	members, err := c.Members(bounded, index)
	cancel()
	if err != nil || len(members) == 0 {
		return err
	}
	prefix, _ := SplitDueIndex(index)
	keys := []string{index}
	for _, member := range members {
		keys = append(keys, prefix+member)
	}
	for len(keys) > 0 {
		n := min(len(keys), mostPiped)
		cmds := make([]redis.Cmder, n)
		for i, k := range keys[:n] {
			cmds[i] = redis.NewBoolCmd(ctx, "pexpire", k, c.lifetimeArg, "gt")
		}
		if err := c.read(ctx, cmds); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
