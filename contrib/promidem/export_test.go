package promidem

const MaxRemembered = maxRemembered
