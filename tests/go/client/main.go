// POSTs a transaction a few times with Go's default client: main URL TOKEN COUNT. Prints each status.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	count, _ := strconv.Atoi(os.Args[3])
	for number := 0; number < count; number++ {
		body := strings.NewReader(`{"amount":"1.00","currency":"EUR","description":"from Go"}`)
		request, err := http.NewRequest("POST", os.Args[1]+"/api/v1/transactions", body)
		if err != nil {
			log.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+os.Args[2])
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			log.Fatal(err)
		}
		answer.Body.Close()
		fmt.Println(answer.StatusCode, answer.Proto)
	}
}
