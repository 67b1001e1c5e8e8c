module github.com/dep2p/connmgr

go 1.26.0

require github.com/gaissmai/bart v0.30.0
