module github.com/caly-dev/caly/test/cluster/pause

go 1.26.0
