import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** POSTs a transaction a few times with Java's default client, which offers h2c with each: Client URL TOKEN COUNT. */
public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int number = 0; number < Integer.parseInt(arguments[2]); number++) {
            String body = "{\"amount\":\"1.00\",\"currency\":\"EUR\",\"description\":\"from Java\"}";
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/api/v1/transactions"))
                .header("Authorization", "Bearer " + arguments[1])
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version());
        }
    }
}
