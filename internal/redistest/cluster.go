package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// These constants are the size of the cluster.
const (
	clusterMasters = 3
	clusterSlots   = 16384
)

// statePoll is the interval between requests for the state of servers. A shorter interval would
// slow down their start.
const statePoll = 10 * time.Millisecond

// Cluster is a cluster of three masters with one replica each.
type Cluster struct {
	// Nodes are the servers. The first three begin as masters of about a third of the slots each,
	// in order. Node i+3 begins as the replica of node i.
	Nodes []*Server
}

// StartCluster starts a cluster. It returns when all nodes are ready, after about 2 s: masters do
// not serve for that long after their start. A master that is down for a second is replaced. The
// caller must end the cluster with Stop. The errors are those of [Start].
func StartCluster() (*Cluster, error) { return startCluster(setup{}) }

func startCluster(s setup) (*Cluster, error) {
	s.ports = 2
	s.arguments = clusterArguments
	nodes, err := startGroup(s, s, s, s, s, s)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Nodes: nodes}
	if err := c.join(); err != nil {
		defer c.Stop()
		return nil, fmt.Errorf("redistest: start cluster: %w; the first node: %s", err, tail(nodes[0].log()))
	}
	return c, nil
}

func clusterArguments(ports []int, dir string) ([]string, error) {
	args, err := standalone(ports, dir)
	return append(args,
		"--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(ports[1]), "--cluster-config-file", "nodes.conf",
		"--cluster-node-timeout", "1000",
		// A replica stands for election regardless of the age of its data. It never changes its
		// master on its own.
		"--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no",
	), err
}

// join makes a cluster of nodes that do not know each other. It does the same as redis-cli
// --cluster create. But where possible, it starts each step before the previous one has spread.
func (c *Cluster) join() error {
	ids := make([]string, clusterMasters)
	for i, node := range c.Nodes {
		if _, err := node.ask("CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
			return err
		}
		if i < clusterMasters {
			first, next := i*clusterSlots/clusterMasters, (i+1)*clusterSlots/clusterMasters
			if _, err := node.ask("CLUSTER", "ADDSLOTSRANGE", first, next-1); err != nil {
				return err
			}
			id, err := node.ask("CLUSTER", "MYID")
			if err != nil {
				return err
			}
			ids[i] = fmt.Sprint(id)
		}
	}
	for _, node := range c.Nodes[1:] {
		if _, err := c.Nodes[0].ask("CLUSTER", "MEET", loopback, node.ports[0], node.ports[1]); err != nil {
			return err
		}
	}
	for i, node := range c.Nodes[clusterMasters:] {
		// The node must have heard of its master first.
		if err := until(patience, statePoll, func() error {
			_, err := node.ask("CLUSTER", "REPLICATE", ids[i])
			return err
		}); err != nil {
			return err
		}
	}
	return c.AwaitReady()
}

// Addrs returns the addresses of all nodes.
func (c *Cluster) Addrs() []string { return addrs(c.Nodes) }

// Stop ends all nodes and blocks until they are gone.
func (c *Cluster) Stop() { stopGroup(c.Nodes) }

// AwaitReady blocks until all nodes agree that every master has its replica, report the cluster as
// ready and are in sync. StartCluster returns in this state, and a failed node returns to it.
// AwaitReady returns an error after a minute, for example while a node is down.
func (c *Cluster) AwaitReady() error { return until(patience, statePoll, c.ready) }

func (c *Cluster) ready() error {
	if err := all(c.Nodes, c.inStep); err != nil {
		return err
	}
	views := make([]string, len(c.Nodes))
	for i, node := range c.Nodes {
		ranges, err := node.slots()
		if err != nil {
			return err
		}
		if views[i], err = view(ranges); err != nil {
			return fmt.Errorf("%s: %w", node.Addr(), err)
		}
		if views[i] != views[0] {
			return fmt.Errorf("%s and %s disagree about the owners of slots", node.Addr(), c.Nodes[0].Addr())
		}
	}
	return nil
}

// inStep checks the node's report of its replication.
func (c *Cluster) inStep(node *Server) error {
	reply, err := node.ask("CLUSTER", "INFO")
	if err != nil {
		return err
	}
	state := fmt.Sprint(reply)
	if infoField(state, "cluster_state") != "ok" || infoField(state, "cluster_known_nodes") != fmt.Sprint(len(c.Nodes)) {
		return fmt.Errorf("%s: the cluster is %s with %s nodes", node.Addr(), infoField(state, "cluster_state"),
			infoField(state, "cluster_known_nodes"))
	}
	replication, err := node.info("replication")
	if err != nil {
		return err
	}
	if !strings.Contains(replication, "state=online") && infoField(replication, "master_link_status") != "up" {
		return fmt.Errorf("%s: not in step with its master or replica", node.Addr())
	}
	return nil
}

// view formats the slots of each node, so that the views of different nodes can be compared.
func view(ranges []redis.ClusterSlot) (string, error) {
	lines := make([]string, len(ranges))
	for i, r := range ranges {
		if len(r.Nodes) < 2 {
			return "", fmt.Errorf("slots %d to %d have no replica", r.Start, r.End)
		}
		lines[i] = fmt.Sprint(r.Start, r.End, r.Nodes[0].Addr)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// Owner returns the node that serves a slot, and its replicas. It asks the nodes and trusts the
// node that reports itself as the owner. Paused and dead nodes do not answer.
func (c *Cluster) Owner(slot int) (owner *Server, replicas []*Server, err error) {
	for _, node := range c.Nodes {
		ranges, err := node.slots()
		if err != nil {
			continue
		}
		for _, r := range ranges {
			if slot < r.Start || slot > r.End || r.Nodes[0].Addr != node.Addr() {
				continue
			}
			for _, n := range r.Nodes[1:] {
				replica, err := byAddr(c.Nodes, n.Addr)
				if err != nil {
					return nil, nil, err
				}
				replicas = append(replicas, replica)
			}
			return node, replicas, nil
		}
	}
	return nil, nil, fmt.Errorf("redistest: no node serves slot %d", slot)
}

func (s *Server) slots() ([]redis.ClusterSlot, error) {
	client := s.Client()
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	//nolint:staticcheck // It is what go-redis itself routes by, so the view that counts.
	return client.ClusterSlots(ctx).Result()
}

// Failover promotes the replica of a slot's master without loss of data. It blocks until all nodes
// agree.
func (c *Cluster) Failover(slot int) error {
	_, replicas, err := c.Owner(slot)
	if err != nil {
		return err
	}
	if len(replicas) == 0 {
		return fmt.Errorf("redistest: the master of slot %d has no replica", slot)
	}
	if _, err := replicas[0].ask("CLUSTER", "FAILOVER"); err != nil {
		return fmt.Errorf("redistest: fail over: %w", err)
	}
	return until(patience, statePoll, func() error {
		if owner, _, err := c.Owner(slot); err != nil || owner != replicas[0] {
			return errors.Join(errors.New("the replica has not taken over"), err)
		}
		return c.ready()
	})
}
