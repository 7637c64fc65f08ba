package redistest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// startGroup starts servers in parallel. If one of them fails, it stops the others.
func startGroup(setups ...setup) ([]*Server, error) {
	servers, errs := make([]*Server, len(setups)), make([]error, len(setups))
	var wg sync.WaitGroup
	for i, s := range setups {
		wg.Go(func() { servers[i], errs[i] = start(s) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		stopGroup(servers)
		return nil, err
	}
	return servers, nil
}

func stopGroup(servers []*Server) {
	var wg sync.WaitGroup
	for _, s := range servers {
		if s != nil {
			wg.Go(s.Stop)
		}
	}
	wg.Wait()
}

// all calls ready for each server and joins the errors.
func all(servers []*Server, ready func(*Server) error) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { errs[i] = ready(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// byAddr returns the server with an address.
func byAddr(servers []*Server, addr string) (*Server, error) {
	i := slices.IndexFunc(servers, func(s *Server) bool { return s.Addr() == addr })
	if i < 0 {
		return nil, fmt.Errorf("redistest: no server of this group has the address %q", addr)
	}
	return servers[i], nil
}

func addrs(servers []*Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Addr()
	}
	return list
}

// awaitReplicas waits until the given number of replicas follow the master and are in sync.
func awaitReplicas(master *Server, replicas int) error {
	return until(patience, statePoll, func() error {
		info, err := master.info("replication")
		if err != nil {
			return err
		}
		if online := strings.Count(info, "state=online"); online != replicas {
			return fmt.Errorf("%d of %d replicas are online", online, replicas)
		}
		return nil
	})
}

// replicaOf returns the setup of a replica of master.
func replicaOf(master *Server, s setup) setup {
	s.arguments = func(ports []int, dir string) ([]string, error) {
		args, err := standalone(ports, dir)
		return append(args, "--replicaof", loopback, fmt.Sprint(master.port())), err
	}
	return s
}
