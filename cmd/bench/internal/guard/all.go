package guard

// All returns every kind of guard that needs nothing but the Redis under test, this library's own first.
func All() []Kind {
	return []Kind{
		redisidemAuto, redisidemPlain, redisidemWait, redisidemCache, redislockAuto, redislockPlain, redsyncPlain, rueidislockKind,
		gofiber, floorPlain, floorAuto,
	}
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
