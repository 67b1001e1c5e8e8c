//go:build !linux

package node

// This file is for systems without systemd.

// Reloading is the states of a process that reads its configuration again.
func Reloading() []string { return []string{"RELOADING=1"} }
