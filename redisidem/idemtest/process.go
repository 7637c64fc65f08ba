package idemtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/faultnet"
	"github.com/redisidem/redisidem/lua"
	"github.com/redisidem/redisidem/redisidem"
)

// errKilled is the error of every call of a killed process. It matches redis.ErrClosed, so that
// neither the client nor the library tries again.
var errKilled = errors.Join(errors.New("idemtest: the process was killed"), redis.ErrClosed)

// process is one run of a program that works on a flow. After it is killed, it sends nothing to
// Redis, its flow runs no stage, and a goroutine in a stage ends.
type process struct {
	network faultnet.Network
	cancel  context.CancelFunc
	ctx     context.Context

	mu     sync.Mutex
	fatal  crashPoint         // where to die; the zero value: never
	seen   map[crashPoint]int // how often each point was reached, without its nth
	past   []crashPoint       // in order
	point  string             // the recovery point of the latest work
	sent   bool               // whether its commit was sent
	fault  faultnet.Fault     // of that commit
	killed bool

	adopting string   // the recovery point at which Adopt has returned an outcome that is not committed yet
	refused  []string // why keys were not adopted that should have been
}

func newProcess(ctx context.Context, fatal crashPoint) *process {
	p := &process{fatal: fatal, seen: make(map[crashPoint]int)}
	p.ctx, p.cancel = context.WithCancel(context.WithValue(ctx, processContext{}, p))
	p.network.OnCall = p.faultOf
	return p
}

// own attaches a client to the process. The client must not have any connections yet.
func (p *process) own(client redis.UniversalClient) {
	p.network.Attach(client)
	client.AddHook(killedHook{p})
	if cluster, ok := client.(*redis.ClusterClient); ok {
		cluster.OnNewNode(func(node *redis.Client) { node.AddHook(killedHook{p}) })
	}
}

// kill ends the process without releasing its lease.
func (p *process) kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.network.RefuseWith(errKilled)
	p.cancel()
}

func (p *process) dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// reach records that the process is at a crash point, and reports whether it dies there.
func (p *process) reach(k boundary, at string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := crashPoint{boundary: k, at: at}
	p.seen[m]++
	m.nth = p.seen[m]
	p.past = append(p.past, m)
	return m == p.fatal
}

// begin records that the process starts work at a recovery point. label is the name of the work.
func (p *process) begin(point, label string) {
	p.mu.Lock()
	p.point, p.sent = point, false
	if p.adopting != "" {
		p.refused = append(p.refused, fmt.Sprintf("the outcome of Adopt at %q was refused", p.adopting))
		p.adopting = ""
	}
	p.mu.Unlock()
	p.step(beforeWork, label)
}

// step kills the process if it is at its crash point. It must be called from the goroutine that
// runs the flow.
func (p *process) step(k boundary, label string) {
	if p.reach(k, label) {
		p.kill()
	}
	if p.dead() {
		runtime.Goexit()
	}
}

// faultOf returns the fault of a script call. A commit is lost at the crash point before it. Its
// reply is lost at the crash point after it.
func (p *process) faultOf(s *lua.Script) (f faultnet.Fault, struck func()) {
	if s.Name != lua.Commit.Name {
		return faultnet.NoFault, nil
	}
	p.mu.Lock()
	point, again := p.point, p.sent
	p.sent, p.adopting = true, ""
	p.mu.Unlock()
	if !again {
		// The process reaches both crash points of a commit, whatever its fault.
		lost, silent := p.reach(beforeCommit, point), p.reach(afterCommit, point)
		p.mu.Lock()
		switch p.fault = faultnet.NoFault; {
		case lost:
			p.fault = faultnet.LoseRequest
		case silent:
			p.fault = faultnet.LoseReply
		}
		p.mu.Unlock()
	}
	// If the server does not have the script, the commit is sent again, with the same fault.
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault, p.kill
}

// notAdopted returns why keys were not adopted that should have been.
func (p *process) notAdopted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// reached returns the crash points that the process has reached.
func (p *process) reached() []crashPoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.past
}

// killedHook refuses the commands of a killed process before the client looks for a connection.
type killedHook struct{ process *process }

// DialHook implements [redis.Hook].
func (killedHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements [redis.Hook].
func (d killedHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.process.dead() {
			return errKilled
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (d killedHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
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

// flow returns the given flow, instrumented with this process's crash points.
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
	for i := range cfg.Earlier {
		e := &cfg.Earlier[i]
		var err error
		if e.Flow, err = p.flow(e.Flow); err != nil {
			return nil, err
		}
		if e.Adopt != nil {
			e.Adopt = p.adopt(e.Adopt)
		}
	}
	return redisidem.NewFlow(cfg)
}

// adopt returns an Adopt with this process's crash points, which records its result.
func (p *process) adopt(adopt redisidem.StageFunc) redisidem.StageFunc {
	return func(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		point := st.Key().RecoveryPoint
		p.begin(adoptLabel+point, adoptLabel+point)
		o, err := adopt(ctx, st)
		p.step(afterWork, adoptLabel+point)
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case err != nil:
			p.refused = append(p.refused, fmt.Sprintf("Adopt at %q: %v", point, err))
		case o.RecoveryPoint != "": // and not NothingDone
			p.adopting = point
		}
		return o, err
	}
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
