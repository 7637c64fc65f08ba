package gateway

import "github.com/redisidem/redisidem/redisidem/httpidem"

// limits returns the quota for the middleware, nil without a limit.
func (g *Gateway) limits() httpidem.Quota {
	if g.quota == nil {
		return nil
	}
	return g.quota
}
