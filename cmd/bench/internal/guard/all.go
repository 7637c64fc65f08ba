package guard

// added are the kinds that need more than the Redis under test.
var added []Kind

// AddMedusaSQL puts [MedusaSQL] among [All]. It is for the beginning of a program.
func AddMedusaSQL(url string) { added = append(added, MedusaSQL(url)) }

// All returns every kind of guard, in a fixed order, this library's own first: those that need nothing but the Redis under
// test, and those that were added.
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
