// Package effect makes the writes to Redis that an outcome of a stage carries. The commit script
// applies them in the same atomic step as the rest of the outcome: all of them or none, and once
// however often the commit is repeated.
//
//	return redisidem.Next().WithEffects(
//		effect.IncrBy(st.ShardKey("orders"), 1),
//		effect.XAdd(st.ShardKey("outbox"), "event", "ordered").MaxLen(10_000),
//	), nil
//
// Keys are made with Stage.ShardKey of package redisidem, except the channel of [Publish]. A
// function of this package never fails: an invalid effect is reported by [Effect.Err], and by the
// commit of its outcome.
package effect
