// Package effect makes the writes to Redis that an outcome of a stage carries. The commit script
// applies them in the same atomic step as the rest of the outcome. All of them are applied or none,
// and only once even if the commit is repeated.
//
//	return redisidem.Next().WithEffects(
//		effect.IncrBy(st.ShardKey("orders"), 1),
//		effect.XAdd(st.ShardKey("outbox"), "event", "ordered").MaxLen(10_000),
//	), nil
//
// Make keys with Stage.ShardKey of package redisidem. Only the channel of [Publish] may have any
// name. The functions of this package never fail: [Effect.Err] reports an invalid effect, and so
// does the commit of its outcome.
package effect
