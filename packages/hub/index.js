// Defines <mooring-hub>. On a server, where there is no document, the script does nothing.
import "./hub.js";
