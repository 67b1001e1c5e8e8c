module github.com/dep2p/connmgr

go 1.26.0
