// A thin wrapper: properties become attributes, handlers become properties of the element.
import { createElement, useEffect, useRef } from "react";
import "@mooring/hub";

export function MooringHub({ token, baseUrl, provider, accountId, theme, lang, onSuccess, onClose, onError, ...rest }) {
  const ref = useRef(null);
  useEffect(() => {
    Object.assign(ref.current, { onSuccess, onClose, onError });
  }, [onSuccess, onClose, onError]);
  useEffect(() => {
    if (token) ref.current.token = token;
  }, [token]);
  return createElement("mooring-hub", { ...rest, ref, "base-url": baseUrl, provider, "account-id": accountId, theme, lang });
}
