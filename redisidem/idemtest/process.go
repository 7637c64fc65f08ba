package idemtest

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// errKilled is what the goroutines of a killed process hear of Redis if they still ask. It matches redis.ErrClosed, after
// which neither the client nor the library tries again.
var errKilled = errors.Join(errors.New("idemtest: the process was killed"), redis.ErrClosed)

// process is one run of a program that works on a flow. It can be killed: from then on nothing of it reaches Redis, its flow
// runs no stage, and the goroutine that was in one ends.
type process struct {
	line   *line
	cancel context.CancelFunc
	ctx    context.Context

	mu     sync.Mutex
	fatal  moment         // when to die; the zero moment: never
	seen   map[moment]int // how often each moment came, without its nth
	past   []moment       // in their order
	point  string         // of the work that was run last
	sent   bool           // its commit has been on its way
	fate   fate           // of that
	killed bool
}

func newProcess(ctx context.Context, fatal moment) *process {
	p := &process{fatal: fatal, seen: make(map[moment]int)}
	p.ctx, p.cancel = context.WithCancel(ctx)
	p.line = newLine(nil)
	p.line.watch = p.watch
	return p
}

// own makes a client the process's. It must not have any connections yet.
func (p *process) own(client redis.UniversalClient) {
	tapInto(client, p.line)
	client.AddHook(deadEnd{p})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(deadEnd{p}) })
	}
}

// kill ends the process, without telling anybody.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.line.refuse(errKilled)
	p.cancel()
}

func (p *process) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// reach notes a moment of the process's life, and reports whether it is the one to die at.
func (p *process) reach(k kind, at string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := moment{kind: k, at: at}
	p.seen[m]++
	m.nth = p.seen[m]
	p.past = append(p.past, m)
	return m == p.fatal
}

// begin notes that the process begins to work at a recovery point. label is what the work is called.
func (p *process) begin(point, label string) {
	p.mu.Lock()
	p.point, p.sent = point, false
	p.mu.Unlock()
	p.step(beforeWork, label)
}

// step lets the process die if the moment has come. It must be called from the goroutine that runs the flow.
func (p *process) step(k kind, label string) {
	if p.reach(k, label) {
		p.kill()
	}
	if p.dead() {
		runtime.Goexit()
	}
}

// watch is told of all script calls, and loses what is to get lost.
func (p *process) watch(s *lua.Script) (f fate, struck func()) {
	if s.Name != lua.Commit.Name {
		return pass, nil
	}
	p.mu.Lock()
	point, again := p.point, p.sent
	p.sent = true
	p.mu.Unlock()
	if !again {
		// Both moments are those of one commit, so both come whatever becomes of it.
		lost, silent := p.reach(beforeCommit, point), p.reach(afterCommit, point)
		p.mu.Lock()
		switch p.fate = pass; {
		case lost:
			p.fate = loseRequest
		case silent:
			p.fate = loseReply
		}
		p.mu.Unlock()
	}
	// A server that does not know the script yet is sent the commit again, and its reply is what is to get lost.
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fate, p.kill
}

// moments returns what the process has lived through.
func (p *process) moments() []moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past
}

// deadEnd refuses the commands of a process that is dead before anybody looks for a connection.
type deadEnd struct{ process *process }

// DialHook implements [redis.Hook].
func (deadEnd) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (d deadEnd) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.process.dead() {
			return errKilled
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (d deadEnd) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !d.process.dead() {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(errKilled)
		}
		return errKilled
	}
}

// flow returns a flow that does what the given one does, in this process.
func (p *process) flow(f *redisidem.Flow) (*redisidem.Flow, error) {
	cfg := f.Config()
	for i := range cfg.Stages {
		s := &cfg.Stages[i]
		s.Work = p.stage(s.Work, "")
		if s.Reconcile != nil {
			s.Reconcile = p.stage(s.Reconcile, "reconcile_")
		}
		if undo := s.Compensate; undo != nil {
			s.Compensate = func(ctx context.Context, st *redisidem.Stage) error {
				label := "compensate_" + st.Compensates().Stage
				p.begin(label, label)
				err := undo(ctx, st)
				p.step(afterWork, label)
				return err
			}
		}
	}
	return redisidem.NewFlow(cfg)
}

func (p *process) stage(work redisidem.StageFunc, prefix string) redisidem.StageFunc {
	return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		point := st.Key().RecoveryPoint
		p.begin(point, prefix+point)
		o, err := work(ctx, st)
		p.step(afterWork, prefix+point)
		return o, err
	}
}
