module bitnexus.test/service

go 1.22
