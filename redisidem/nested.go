package redisidem

// isNested reports whether the call is inside a stage of the same key. It would wait for itself.
func (cl *claimant) isNested() bool {
	for l := cl.outer; l != nil; l = l.outer {
		if l.id.Record == cl.claim.id.Record && l.scope.service.client == cl.scope.service.client && l.holds() {
			return true
		}
	}
	return false
}
