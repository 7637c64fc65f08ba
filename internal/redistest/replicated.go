package redistest

import "fmt"

// Replicated is a master with replicas that follow it, without failover.
type Replicated struct {
	Master   *Server
	Replicas []*Server
}

// StartReplicated starts a master and replicas, all with the same options. It returns when all
// replicas are in sync, so that WAIT counts them, usually within 200 ms. The caller must end it
// with Stop. The errors are those of [Start].
func StartReplicated(replicas int, opts ...Option) (*Replicated, error) {
	var s setup
	for _, opt := range opts {
		opt(&s)
	}
	return startReplicated(replicas, s)
}

func startReplicated(replicas int, s setup) (_ *Replicated, err error) {
	r := new(Replicated)
	defer func() {
		if err != nil {
			r.Stop()
		}
	}()
	if r.Master, err = start(s); err != nil {
		return nil, err
	}
	setups := make([]setup, replicas)
	for i := range setups {
		setups[i] = replicaOf(r.Master, s)
	}
	if r.Replicas, err = startGroup(setups...); err != nil {
		return nil, err
	}
	if err := awaitReplicas(r.Master, replicas); err != nil {
		return nil, fmt.Errorf("redistest: start replicas: %w; master: %s", err, tail(r.Master.log()))
	}
	return r, nil
}

// Stop ends all servers and blocks until they are gone.
func (r *Replicated) Stop() { stopGroup(append([]*Server{r.Master}, r.Replicas...)) }
