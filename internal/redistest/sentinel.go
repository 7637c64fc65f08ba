package redistest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Sentinel is a master with two replicas, watched by three sentinels.
type Sentinel struct {
	// MasterName is the sentinels' name for the master.
	MasterName string
	// Data are the servers with the data. The first one begins as the master.
	Data []*Server
	// Sentinels are the sentinel processes.
	Sentinels []*Server
}

// StartSentinel starts a Sentinel group. It returns when the sentinels know each other and all data
// servers, usually within 1 s. A master that does not answer for half a second is replaced. The
// caller must end the group with Stop. The errors are those of [Start].
func StartSentinel() (*Sentinel, error) { return startSentinel(setup{}) }

func startSentinel(s setup) (_ *Sentinel, err error) {
	group := &Sentinel{MasterName: "redistest"}
	defer func() {
		if err != nil {
			group.Stop()
		}
	}()
	data, err := startReplicated(2, s)
	if err != nil {
		return nil, err
	}
	group.Data = append([]*Server{data.Master}, data.Replicas...)

	watch := s
	watch.arguments = group.configure
	if group.Sentinels, err = startGroup(watch, watch, watch); err != nil {
		return nil, err
	}
	// Sentinels announce themselves every 2 s and look for new replicas every 10 s. Shorter periods
	// speed up the start. A sentinel without the command just takes longer.
	group.setPeriods(100)
	if err = group.AwaitReady(); err != nil {
		return nil, fmt.Errorf("redistest: start sentinels: %w; the first: %s", err, tail(group.Sentinels[0].log()))
	}
	// Sentinels that have not heard of a failover undo it after four publish periods. That must not
	// be shorter than a failover.
	group.setPeriods(1000)
	return group, nil
}

func (g *Sentinel) setPeriods(publish int) {
	for _, sentinel := range g.Sentinels {
		_, _ = sentinel.ask("SENTINEL", "DEBUG", "PUBLISH-PERIOD", publish, "INFO-PERIOD", 1000)
	}
}

// configure writes a sentinel's configuration file. The sentinel also stores its state there.
func (g *Sentinel) configure(ports []int, dir string) ([]string, error) {
	text := fmt.Sprintf(`port %d
bind %s
dir %q
sentinel monitor %[4]s %[2]s %[5]d 2
sentinel down-after-milliseconds %[4]s 500
sentinel failover-timeout %[4]s 4000
sentinel parallel-syncs %[4]s 2
`, ports[0], loopback, dir, g.MasterName, g.Data[0].port())
	file := filepath.Join(dir, "sentinel.conf")
	return []string{file, "--sentinel"}, os.WriteFile(file, []byte(text), 0o600)
}

// Addrs returns the addresses of the sentinels.
func (g *Sentinel) Addrs() []string { return addrs(g.Sentinels) }

// Stop ends all servers and blocks until they are gone.
func (g *Sentinel) Stop() {
	// The sentinels end first, or they would start a failover.
	stopGroup(g.Sentinels)
	stopGroup(g.Data)
}

// AwaitReady blocks until all sentinels know the others and agree on a healthy master, which both
// other data servers follow. StartSentinel returns in this state, and a failed server returns to
// it. AwaitReady returns an error after a minute, for example while a server is down.
func (g *Sentinel) AwaitReady() error {
	return until(patience, statePoll, func() error {
		if err := all(g.Sentinels, g.ready); err != nil {
			return err
		}
		master, err := g.Master()
		if err != nil {
			return err
		}
		return g.followed(master, g.Data)
	})
}

// AwaitReplaced blocks until all sentinels agree on a master other than old, which is down. No
// failover is in progress then, and the other servers follow the new master. Do not restart old
// earlier, since it could follow a master that is about to be replaced. The error is that of
// AwaitReady.
func (g *Sentinel) AwaitReplaced(old *Server) error {
	rest := slices.DeleteFunc(slices.Clone(g.Data), func(server *Server) bool { return server == old })
	return until(patience, statePoll, func() error {
		master, err := g.Master()
		if err != nil {
			return err
		}
		if master == old {
			return fmt.Errorf("%s is still the master", old.Addr())
		}
		if err := all(g.Sentinels, func(sentinel *Server) error {
			state, err := g.master(sentinel)
			if err == nil && (state["flags"] != "master" || state["port"] != fmt.Sprint(master.port())) {
				err = fmt.Errorf("to sentinel %s, %s is the %s", sentinel.Addr(), state["port"], state["flags"])
			}
			return err
		}); err != nil {
			return err
		}
		return g.followed(master, rest)
	})
}

// followed checks that the servers other than the master are its replicas.
func (g *Sentinel) followed(master *Server, servers []*Server) error {
	return all(servers, func(server *Server) error {
		if server == master {
			return nil
		}
		info, err := server.info("replication")
		if err != nil {
			return err
		}
		if infoField(info, "master_port") != fmt.Sprint(master.port()) || infoField(info, "master_link_status") != "up" {
			return fmt.Errorf("%s does not follow the master %s", server.Addr(), master.Addr())
		}
		return nil
	})
}

// ready checks the state of a sentinel.
func (g *Sentinel) ready(sentinel *Server) error {
	master, err := g.master(sentinel)
	if err != nil {
		return err
	}
	replicas, others := fmt.Sprint(len(g.Data)-1), fmt.Sprint(len(g.Sentinels)-1)
	if master["flags"] != "master" || master["num-slaves"] != replicas || master["num-other-sentinels"] != others {
		return fmt.Errorf("sentinel %s: flags %s, %s replicas, %s other sentinels", sentinel.Addr(), master["flags"],
			master["num-slaves"], master["num-other-sentinels"])
	}
	return nil
}

// master returns a sentinel's information about the master.
func (g *Sentinel) master(sentinel *Server) (map[string]string, error) {
	reply, err := sentinel.ask("SENTINEL", "MASTER", g.MasterName)
	if err != nil {
		return nil, err
	}
	list, _ := reply.([]any)
	fields := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		fields[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return fields, nil
}

// Master returns the data server that the sentinels consider the master. It asks one sentinel after
// another until one answers.
func (g *Sentinel) Master() (*Server, error) {
	var errs []error
	for _, sentinel := range g.Sentinels {
		master, err := g.master(sentinel)
		if err == nil {
			return byAddr(g.Data, master["ip"]+":"+master["port"])
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("redistest: no sentinel answers: %w", errors.Join(errs...))
}

// Failover makes the sentinels replace the healthy master. It blocks until all of them agree on the
// new one, about 1 s. The old master becomes a replica some seconds later; see AwaitReady. The
// failover timeout is 4 s. After any failover, the sentinels wait for twice that time before they
// replace a dead master.
func (g *Sentinel) Failover() error {
	old, err := g.Master()
	if err != nil {
		return err
	}
	if err := until(patience, statePoll, func() error {
		return all(g.Sentinels, func(sentinel *Server) error { return g.changed(sentinel, old) })
	}); err != nil {
		return fmt.Errorf("redistest: fail over: %w", err)
	}
	return nil
}

// changed returns nil if the sentinel knows a master other than old. The first sentinel starts the
// failover, and starts it again if it was aborted.
func (g *Sentinel) changed(sentinel, old *Server) error {
	master, err := g.master(sentinel)
	if err != nil {
		return err
	}
	if master["port"] != fmt.Sprint(old.port()) {
		return nil
	}
	if sentinel == g.Sentinels[0] && !strings.Contains(master["flags"], "failover_in_progress") {
		if _, err := sentinel.ask("SENTINEL", "FAILOVER", g.MasterName); err != nil {
			return err
		}
	}
	return fmt.Errorf("sentinel %s has not learned of the failover", sentinel.Addr())
}
