package contender

// added are the kinds that need another server than the Redis under test.
var added []Kind

// AddMedusaSQL adds [MedusaSQL] and [RedisidemSQL] to [All]. It must be called at the start of the
// program.
func AddMedusaSQL(url string) { added = append(added, MedusaSQL(url), RedisidemSQL(url)) }

// All returns every kind of contender in a fixed order. This library's own kinds come first, then
// the others that need only the Redis under test, then the added ones.
func All() []Kind {
	return append([]Kind{
		redisidemAuto, redisidemPlain, redisidemWait, redisidemCache, redislockAuto, redislockPlain, redsyncPlain, rueidislockKind,
		gofiber, floorPlain, floorAuto, httpBare, httpFloor, httpFloorAuto, httpMiddleware, httpMiddlewareAuto,
		gatewayKind, gatewayBare, proxyBare,
	}, added...)
}

// ByName returns the kind with that name.
func ByName(name string) (Kind, bool) {
	for _, k := range All() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}
