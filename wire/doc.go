// Package wire is the protocol: what lanchat puts on the network, byte for
// byte. (The page on the protocol follows here.)
package wire
