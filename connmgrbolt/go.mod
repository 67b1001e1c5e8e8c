module github.com/dep2p/connmgr/connmgrbolt

go 1.26.0

require (
	github.com/dep2p/connmgr v0.0.0
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/gaissmai/bart v0.30.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)

replace github.com/dep2p/connmgr => ../
