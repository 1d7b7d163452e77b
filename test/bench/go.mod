module github.com/caly-dev/caly/test/bench

go 1.26.0

replace github.com/caly-dev/caly => ../..
